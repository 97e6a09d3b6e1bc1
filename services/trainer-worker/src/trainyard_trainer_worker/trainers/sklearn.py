"""scikit-learn: one estimator with sensible settings, for a quick and light result.

`extras.sklearn`: `estimator` (one of `ESTIMATORS`), `params` (its own keyword arguments).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from trainyard_trainer_worker.spec import Detail, clean, invalid_request
from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Reporter
from trainyard_trainer_worker.trainers.features import build_features
from trainyard_trainer_worker.training.evaluation import predict, score
from trainyard_trainer_worker.training.jsonsafe import json_safe

CHUNKS = 10
FIRST_TREES = 1
FIRST_ITERATIONS = 10


@dataclass(frozen=True, slots=True)
class Estimator:
    """One estimator: its class per task type, its defaults, and whether it wants standardised columns.

    `grows` is true where trees can be added to a fitted one, `iterates` where a solver goes on from a fitted one: so
    progress is seen and the time budget is kept. The others solve one equation, and cannot be stopped in it.
    """

    classes: Mapping[Literal["classification", "regression"], Callable[..., Any]]
    defaults: Mapping[str, Any]
    scale: bool = False
    grows: bool = False
    iterates: bool = False


ESTIMATORS: Mapping[str, Estimator] = {
    "logreg": Estimator({"classification": LogisticRegression}, {"max_iter": 1_000}, scale=True, iterates=True),
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
        """See `Trainer.fit`. An ensemble or a solver that would pass the budget stops early, with a warning."""
        name, estimator = _choose(task, reporter)
        features = build_features(task.columns, scale=ESTIMATORS[name].scale)
        pipeline = Pipeline([("features", features), ("model", estimator)])
        try:
            if ESTIMATORS[name].grows:
                _grow(pipeline, task, reporter)
            elif ESTIMATORS[name].iterates and estimator.get_params().get("solver") != "liblinear":
                _iterate(pipeline, task, reporter)
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
    ours: dict[str, Any] = {"random_state": task.seed}
    if not description.iterates:  # logistic regression warns that it uses none since scikit-learn 1.8
        ours["n_jobs"] = task.n_jobs
    estimator.set_params(**{key: value for key, value in ours.items() if key in estimator.get_params()})
    return name, estimator


def next_size(size: int, total: int, spent_s: float, budget_s: float) -> int:
    """The size that an ensemble of `size` trees grows to next: one tree at first, then a tenth of the total more, but
    no more than half of the time left is enough for at the speed so far."""
    step = max(1, total // CHUNKS)
    if size == 0:
        return min(total, step, FIRST_TREES)
    return min(total, size + min(step, _affordable(size, spent_s, budget_s)))


def next_iterations(done: int, total: int, spent_s: float, budget_s: float) -> int:
    """How many iterations a solver does next: ten, then as many again as it has done, but no more than are left, nor
    than half of the time left is enough for. Restarts are few, and where they are does not depend on the machine until
    the budget is near."""
    if done == 0:
        return min(total, FIRST_ITERATIONS)
    return min(total - done, done, _affordable(done, spent_s, budget_s))


def is_spent(done: int, spent_s: float, budget_s: float) -> bool:
    """Whether one step more would pass the budget, when `done` steps took `spent_s`."""
    return spent_s + spent_s / done > budget_s


def _affordable(done: int, spent_s: float, budget_s: float) -> int:
    """Steps, at least one, that half of the time left is enough for when `done` steps took `spent_s`."""
    return max(1, int((budget_s - spent_s) / 2 * done / max(spent_s, 1e-9)))


def _grow(pipeline: Any, task: FitTask, reporter: Reporter) -> None:
    """Fit an ensemble step by step: progress is seen, and the time budget is kept to within a tree."""
    model = pipeline.named_steps["model"]
    total = _positive(model, "n_estimators")
    started = time.monotonic()
    matrix = pipeline.named_steps["features"].fit_transform(task.features, task.target)
    model.set_params(warm_start=True)
    size, spent = 0, 0.0
    while size < total:
        size = next_size(size, total, spent, task.time_budget_s)
        model.set_params(n_estimators=size).fit(matrix, task.target)
        spent = time.monotonic() - started
        eta_s = spent / size * (total - size)
        _report(pipeline, task, reporter, step=size, total=total, eta_s=eta_s)
        spent = time.monotonic() - started
        if getattr(model, "n_estimators_", size) < size:  # it stopped by itself: n_iter_no_change
            break
        if size < total and is_spent(size, spent, task.time_budget_s):
            reporter.warn(f"time_budget_s of {task.time_budget_s:g} s was used up after {size} of {total} trees")
            break
    model.set_params(warm_start=False)


def _iterate(pipeline: Any, task: FitTask, reporter: Reporter) -> None:
    """Fit with a solver that goes on where it stopped, until it converges or its iterations or the time are used up."""
    model = pipeline.named_steps["model"]
    total = _positive(model, "max_iter")
    started = time.monotonic()
    matrix = pipeline.named_steps["features"].fit_transform(task.features, task.target)
    model.set_params(warm_start=True)
    done, spent = 0, 0.0
    while True:
        step = next_iterations(done, total, spent, task.time_budget_s)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(max_iter=step).fit(matrix, task.target)
        done, spent = done + step, time.monotonic() - started
        is_solved = int(max(model.n_iter_)) < step
        is_over = is_solved or done >= total or is_spent(done, spent, task.time_budget_s)
        _report(pipeline, task, reporter, done, done if is_over else total, 0.0 if is_over else spent)
        if is_over:
            break
    if not is_solved and done < total:
        reporter.warn(f"time_budget_s of {task.time_budget_s:g} s was used up after {done} of {total} iterations")
    elif not is_solved:
        reporter.warn(f"extras.sklearn.params.max_iter of {total} iterations was used up before the solver converged")
    model.set_params(warm_start=False, max_iter=total)


def _positive(model: Any, name: str) -> int:
    value = getattr(model, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid_request(
            Detail.FIELD_INVALID, f"extras.sklearn.params.{name} is {clean(value)}; it must be a positive integer"
        )
    return value


def _report(pipeline: Any, task: FitTask, reporter: Reporter, step: int, total: int, eta_s: float) -> None:
    head = task.features.iloc[:1_000]
    value = score(task.metric.name, task.target[: len(head)], predict(pipeline, head, task.n_classes))
    if value is not None:
        reporter.scalar(task.metric.name, "train", value, step)
    reporter.progress(step, total, round(eta_s, 3), {} if value is None else {f"train_{task.metric.name}": value})
