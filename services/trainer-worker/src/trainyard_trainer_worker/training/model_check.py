"""The clean process that loads a packed model once: started when the fit begins, asked at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, Detail, ModelFile

LIMIT_S = 120.0
_PRELOAD = {
    "flaml": "sklearn.ensemble,sklearn.compose,lightgbm,xgboost",
    "autogluon": "autogluon.tabular,lightgbm,xgboost",
}
_PRELOAD_ELSE = "sklearn.ensemble,sklearn.compose"


class CleanProcess:
    """A process that loads the libraries of `trainer` while we train, so that the check itself takes tenths of a
    second. `start` it when the processor is no longer needed for something more urgent; `with` ends it."""

    def __init__(self, trainer: str) -> None:
        self._trainer = trainer
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            with self._process as process:
                process.kill()

    def start(self) -> subprocess.Popen[str]:
        """The running process."""
        if self._process is None:
            command = [sys.executable, "-m", "trainyard_trainer_worker.training.verify", "--wait"]
            preload = _PRELOAD.get(self._trainer, _PRELOAD_ELSE)
            options = ["--preload", preload, "--parent-pid", str(os.getpid())]
            self._process = subprocess.Popen(
                [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self._process

    def check(self, work_dir: Path, model: ModelFile) -> dict[str, Any]:
        """The verdict of `verify` on `model`. Raises AttemptError(trainer_error, model_differs) where it is bad."""
        process = self.start()
        task = json.dumps({"path": str(work_dir / model.path), "sha256": model.sha256})
        try:
            answer, _ = process.communicate(task + "\n", timeout=LIMIT_S)
            verdict: dict[str, Any] = json.loads(answer)
        except (subprocess.TimeoutExpired, ValueError, BrokenPipeError) as error:
            raise AttemptError(
                Reason.TRAINER_ERROR,
                Detail.MODEL_DIFFERS,
                f"the clean process that loads the model gave no answer ({type(error).__name__}, status "
                f"{process.poll()}); its message is in the console",
            ) from error
        if not verdict["ok"]:
            problem = f"the packed model failed: {verdict['problem']}"
            raise AttemptError(Reason.TRAINER_ERROR, Detail.MODEL_DIFFERS, problem)
        return verdict
