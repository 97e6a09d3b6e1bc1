"""scikit-learn: one estimator with sensible settings, for a quick and light result.

`extras.sklearn`: `estimator` (one of `ESTIMATORS`), `params` (its own keyword arguments).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from trainyard_trainer_worker.spec import Detail, clean, invalid_request
from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Reporter
from trainyard_trainer_worker.trainers.features import build_features
from trainyard_trainer_worker.training.evaluation import predict, score
from trainyard_trainer_worker.training.jsonsafe import json_safe

CHUNKS = 10
FIRST_TREES = 10


@dataclass(frozen=True, slots=True)
class Estimator:
    """One estimator: its class per task type, its defaults, and whether it wants standardised columns.

    `grows` is true where trees can be added to a fitted one, so that progress is seen and the time budget is kept.
    """

    classes: Mapping[Literal["classification", "regression"], Callable[..., Any]]
    defaults: Mapping[str, Any]
    scale: bool = False
    grows: bool = False


ESTIMATORS: Mapping[str, Estimator] = {
    "logreg": Estimator({"classification": LogisticRegression}, {"max_iter": 1_000}, scale=True),
    "linear_regression": Estimator({"regression": LinearRegression}, {}, scale=True),
    "ridge": Estimator({"regression": Ridge}, {"alpha": 1.0}, scale=True),
    "random_forest": Estimator(
        {"classification": RandomForestClassifier, "regression": RandomForestRegressor},
        {"n_estimators": 100},
        grows=True,
    ),
    "gradient_boosting": Estimator(
        {"classification": GradientBoostingClassifier, "regression": GradientBoostingRegressor},
        {"n_estimators": 100},
        grows=True,
    ),
}
DEFAULT_ESTIMATOR = "random_forest"
_OURS = frozenset({"random_state", "n_jobs", "warm_start", "verbose"})


class SklearnTrainer:
    """Fits one scikit-learn estimator behind the shared feature pipeline."""

    name = "sklearn"
    libraries = ("scikit-learn", "pandas", "numpy")

    def fit(self, task: FitTask, reporter: Reporter) -> FittedModel:
        """See `Trainer.fit`. A growing ensemble that would pass the budget stops early, with a warning."""
        name, estimator = _choose(task, reporter)
        features = build_features(task.columns, scale=ESTIMATORS[name].scale)
        pipeline = Pipeline([("features", features), ("model", estimator)])
        try:
            if ESTIMATORS[name].grows:
                _grow(pipeline, task, reporter)
            else:
                pipeline.fit(task.features, task.target)
                _report(pipeline, task, reporter, step=1, total=1, eta_s=0.0)
        except (ValueError, TypeError) as error:
            if not task.extras.get("params"):
                raise
            raise invalid_request(  # scikit-learn judges its settings first of all, when it fits
                Detail.FIELD_INVALID, f"extras.sklearn.params do not suit {name}: {clean(error, 300)}"
            ) from error
        params = estimator.get_params()
        if "n_jobs" in params:
            estimator.set_params(n_jobs=None)  # prediction: 30 ms of thread start-up per call otherwise
        config = {key: value for key, value in params.items() if key not in ("n_jobs", "warm_start", "verbose")}
        return FittedModel(pipeline, name, json_safe(config))


def _choose(task: FitTask, reporter: Reporter) -> tuple[str, Any]:
    name = task.extras.get("estimator") or DEFAULT_ESTIMATOR
    task_type: Literal["classification", "regression"] = "classification" if task.is_classification else "regression"
    fitting = [key for key, value in ESTIMATORS.items() if task_type in value.classes]
    if name not in fitting:
        raise invalid_request(
            Detail.FIELD_INVALID,
            f"extras.sklearn.estimator is {clean(name)}; for {task_type} use one of {', '.join(fitting)}",
        )
    params = task.extras.get("params") or {}
    if not isinstance(params, Mapping):
        raise invalid_request(Detail.FIELD_INVALID, "extras.sklearn.params must be an object")
    for key in sorted(set(task.extras) - {"estimator", "params", "feature_importance", "summary", "analysis"}):
        reporter.warn(f"extras.sklearn.{clean(key, 40)} is unknown and was ignored")
    description = ESTIMATORS[name]
    make = description.classes[task_type]
    allowed = set(make().get_params()) - _OURS
    unknown = sorted(set(params) - allowed)
    if unknown:
        raise invalid_request(
            Detail.FIELD_INVALID,
            f"extras.sklearn.params.{clean(unknown[0], 40)} is no setting of {name}; "
            f"it has {', '.join(sorted(allowed))}",
        )
    estimator = make(**{**description.defaults, **params})
    ours = {"random_state": task.seed, "n_jobs": task.n_jobs}
    estimator.set_params(**{key: value for key, value in ours.items() if key in estimator.get_params()})
    return name, estimator


def next_size(size: int, total: int, spent_s: float, budget_s: float) -> int:
    """The size that an ensemble of `size` trees grows to next: ten trees at first, then a tenth of the total more, but
    no more than half of the time left is enough for at the speed so far."""
    step = max(1, total // CHUNKS)
    if size == 0:
        return min(total, step, FIRST_TREES)
    affordable = int((budget_s - spent_s) / 2 * size / spent_s) if spent_s > 0 else step
    return min(total, size + max(1, min(step, affordable)))


def _grow(pipeline: Any, task: FitTask, reporter: Reporter) -> None:
    """Fit an ensemble step by step: progress is seen, and the time budget is kept to within a tree or ten."""
    model = pipeline.named_steps["model"]
    total = model.n_estimators
    if not isinstance(total, int) or isinstance(total, bool) or total < 1:
        raise invalid_request(
            Detail.FIELD_INVALID, f"extras.sklearn.params.n_estimators is {clean(total)}; it must be a positive integer"
        )
    matrix = pipeline.named_steps["features"].fit_transform(task.features, task.target)
    started = time.monotonic()
    model.set_params(warm_start=True)
    size, spent = 0, 0.0
    while size < total:
        size = next_size(size, total, spent, task.time_budget_s)
        model.set_params(n_estimators=size).fit(matrix, task.target)
        spent = time.monotonic() - started
        eta_s = spent / size * (total - size)
        _report(pipeline, task, reporter, step=size, total=total, eta_s=eta_s)
        spent = time.monotonic() - started
        if spent > task.time_budget_s and size < total:
            reporter.warn(f"time_budget_s of {task.time_budget_s:g} s was used up after {size} of {total} trees")
            break
    model.set_params(warm_start=False)


def _report(pipeline: Any, task: FitTask, reporter: Reporter, step: int, total: int, eta_s: float) -> None:
    head = task.features.iloc[:1_000]
    value = score(task.metric.name, task.target[: len(head)], predict(pipeline, head, task.n_classes))
    if value is not None:
        reporter.scalar(task.metric.name, "train", value, step)
    reporter.progress(step, total, round(eta_s, 3), {} if value is None else {f"train_{task.metric.name}": value})
