"""The port between an attempt and an AutoML library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import pandas as pd

from trainyard_trainer_worker.spec import Artifact
from trainyard_trainer_worker.training.evaluation import Metric
from trainyard_trainer_worker.training.frames import Column, Ints


class Reporter(Protocol):
    """Where a trainer tells how far it is. Callable from any thread; never blocks for long, never raises."""

    def progress(self, step: int, total: int | None, eta_s: float | None, metrics: Mapping[str, float]) -> None:
        """`step` of `total` is done; at most a few a second are passed on."""

    def scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        """One point of a plot. What is not finite is dropped."""

    def warn(self, message: str) -> None:
        """Record something the user should know."""


@dataclass(frozen=True, slots=True)
class FitTask:
    """All that a fit may see: the training part only.

    `features` has exactly `columns`, in the kinds that `frames` knows. For classification `target` holds codes
    0..n_classes-1; for regression numbers, and `n_classes` is 0. `groups` (codes) is given when the held-out part was
    split by groups: every inner validation must keep them whole too. `extras` is the trainer's namespace of the
    request. Files may be written below `work_dir`.
    """

    features: pd.DataFrame
    target: npt.NDArray[Any]
    columns: Sequence[Column]
    n_classes: int
    groups: Ints | None
    metric: Metric
    time_budget_s: float
    seed: int
    n_jobs: int
    extras: Mapping[str, Any]
    work_dir: Path

    @property
    def is_classification(self) -> bool:
        """True where the target holds class codes."""
        return self.n_classes > 0


@dataclass(frozen=True, slots=True)
class SavedFolder:
    """A model that its library saved as the folder `path`, to be stored in the archive as `name`.

    `format` is one that `training.loading` knows; `load` the Python expression that loads it from the unpacked archive.
    """

    path: Path
    name: str
    format: str
    load: str


Importance = Callable[[pd.DataFrame, npt.NDArray[Any], float], Mapping[str, Mapping[str, float]]]
"""From held-out features, their target and a limit in seconds to figures per column, `importance` among them, the
column that matters most first."""


@dataclass(frozen=True, slots=True)
class FittedModel:
    """What a fit gives back.

    `pipeline` takes the raw feature table (`frames.to_features`), has `predict`, and for classification
    `predict_proba` and `classes_` (codes). It can be pickled, or lies saved in `folder`; either way it loads with the
    libraries in `libraries` alone, without Trainyard. `config`, `summary` and `leaderboard` (a row per model, with the
    same keys, the best first) are JSON-safe. `importance` is the library's own, where it has one.
    """

    pipeline: Any
    estimator: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    folder: SavedFolder | None = None
    leaderboard: Sequence[Mapping[str, Any]] = ()
    importance: Importance | None = None


class Trainer(Protocol):
    """An adapter. Its module may import its library at the top: it is imported only when a run asks for it."""

    name: str
    libraries: tuple[str, ...]
    """Distributions whose versions belong to the model."""

    def fit(self, task: FitTask, reporter: Reporter) -> FittedModel:
        """Train within about `time_budget_s`.

        Raises AttemptError for what the user can mend. Any other exception counts as `trainer_error`. A BaseException
        that comes out of a signal handler passes through.
        """
