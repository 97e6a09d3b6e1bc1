"""How a running AutoGluon fit is watched and ended: what it calls between models, and a timer."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from autogluon.core.callbacks import AbstractCallback

from trainyard_trainer_worker.trainers.base import FitTask, Reporter


class TimeUp(BaseException):
    """The budget is used up. Not an Exception: AutoGluon takes those for a model that failed, and trains on."""


AGAIN_S = 1.0
"""After how long it is said again: what is raised in a finalizer, or in a callback of C, is printed and forgotten."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the body when it takes longer, until it ends. Signals reach the main thread only; elsewhere
    this does nothing, and AutoGluon's own limit holds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
    finally:  # also where it rang on the way out
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class Progress(AbstractCallback):  # type: ignore[misc] # the library ships no types
    """Reports every trained model as progress and as a point of a plot. AutoGluon calls it between models."""

    def __init__(self, task: FitTask, reporter: Reporter) -> None:
        super().__init__()
        self._metric, self._sign = task.metric.name, 1.0 if task.metric.greater_is_better else -1.0
        self._budget_s = task.time_budget_s
        self._reporter = reporter
        self._since = time.monotonic()
        self._best: float | None = None
        self.begun = 0
        self.trained = 0
        self.undefined = False
        """Whether a model was thrown away because the metric is not defined for it."""

    def start_over(self, metric: str, *, greater_is_better: bool) -> None:
        """The fit begins again, by another metric."""
        self._metric, self._sign, self._best = metric, 1.0 if greater_is_better else -1.0, None
        self.undefined = False

    def __deepcopy__(self, _memo: object) -> Progress:
        return self  # AutoGluon copies its arguments for trial fits; the reporter's pipe is one

    def __reduce__(self) -> tuple[Any, ...]:
        return (AbstractCallback, ())  # a predictor saved in mid-fit must load without Trainyard

    def _before_model_fit(self, trainer: Any, model: Any, **_: Any) -> tuple[bool, bool]:
        self.begun += 1
        return False, False

    def _after_model_fit(self, trainer: Any, model_names: Sequence[str], **_: Any) -> bool:
        kept = set(trainer.get_model_names())
        self.undefined = self.undefined or not kept.issuperset(model_names)
        for name in kept.intersection(model_names):
            self._trained(name, trainer.get_model_attribute(name, "val_score"))
        return False

    def _trained(self, name: str, score: float | None) -> None:
        self.trained += 1
        left_s = max(0.0, self._budget_s - (time.monotonic() - self._since))
        figures = {}
        if score is not None:
            self._best = score if self._best is None else max(self._best, score)
            self._reporter.scalar(f"validation {self._metric}", name, self._sign * score, self.trained)
            figures = {f"best_validation_{self._metric}": self._sign * self._best}
        self._reporter.progress(self.trained, None, round(left_s, 3), figures)
