"""The check of a packed model: loaded once in a clean process, it must predict its sample as it did."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, Detail, ModelFile
from trainyard_trainer_worker.training.clean_process import CleanProcess, NoAnswer

LIMIT_S = 120.0
_PRELOAD = {
    "flaml": "sklearn.ensemble,sklearn.compose,lightgbm,xgboost",
    "autogluon": "autogluon.tabular,lightgbm,xgboost",
}
_PRELOAD_ELSE = "sklearn.ensemble,sklearn.compose"


class ModelCheck:
    """One attempt's check, by the clean process that its child brings, or by one that begins to load the libraries of
    `trainer` at `start`: when the processor is no longer needed for something more urgent. `with` ends it."""

    def __init__(self, trainer: str, clean_process: CleanProcess | None = None) -> None:
        self._trainer = trainer
        self._clean_process = clean_process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._clean_process is not None:
            self._clean_process.end()

    def start(self) -> CleanProcess:
        """The running process."""
        if self._clean_process is None:
            self._clean_process = CleanProcess.spawn(_PRELOAD.get(self._trainer, _PRELOAD_ELSE))
        return self._clean_process

    def check(self, work_dir: Path, model: ModelFile) -> dict[str, Any]:
        """The verdict of `verify` on `model`. Raises AttemptError(trainer_error, model_differs) where it is bad."""
        try:
            verdict = self.start().ask(work_dir / model.path, model.sha256, LIMIT_S)
        except NoAnswer as error:
            raise AttemptError(
                Reason.TRAINER_ERROR,
                Detail.MODEL_DIFFERS,
                f"the clean process that loads the model gave no answer ({error}); its message is in the console",
            ) from error
        if not verdict["ok"]:
            problem = f"the packed model failed: {verdict['problem']}"
            raise AttemptError(Reason.TRAINER_ERROR, Detail.MODEL_DIFFERS, problem)
        return verdict
