"""The clean process that loads a packed model once: started early, asked at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, Detail, ModelFile

LIMIT_S = 120.0
_PRELOAD = {
    "flaml": "sklearn.ensemble,sklearn.compose,lightgbm,xgboost",
    "autogluon": "autogluon.tabular,lightgbm,xgboost",
}
_PRELOAD_ELSE = "sklearn.ensemble,sklearn.compose"


@contextmanager
def model_check(trainer: str) -> Iterator[subprocess.Popen[str]]:
    """A process that loads the libraries of `trainer` while we train, so that the check itself takes tenths of a
    second. It ends with the block, and with us."""
    command = [sys.executable, "-m", "trainyard_trainer_worker.training.verify", "--wait"]
    options = ["--preload", _PRELOAD.get(trainer, _PRELOAD_ELSE), "--parent-pid", str(os.getpid())]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def check(process: subprocess.Popen[str], work_dir: Path, model: ModelFile) -> dict[str, Any]:
    """The verdict of `verify` on `model`. Raises AttemptError(trainer_error, model_differs) where it is not good."""
    task = json.dumps({"path": str(work_dir / model.path), "sha256": model.sha256})
    try:
        answer, _ = process.communicate(task + "\n", timeout=LIMIT_S)
        verdict: dict[str, Any] = json.loads(answer)
    except (subprocess.TimeoutExpired, ValueError, BrokenPipeError) as error:
        raise AttemptError(
            Reason.TRAINER_ERROR,
            Detail.MODEL_DIFFERS,
            f"the clean process that loads the model gave no answer ({type(error).__name__}, status {process.poll()}); "
            "its message is in the console",
        ) from error
    if not verdict["ok"]:
        raise AttemptError(Reason.TRAINER_ERROR, Detail.MODEL_DIFFERS, f"the packed model failed: {verdict['problem']}")
    return verdict
