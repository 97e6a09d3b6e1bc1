"""How good a model is on the held-out part: metrics beside a baseline, and which columns it relies on.

scikit-learn computes the metrics. The table `METRICS` is the one place that says what each is for and which direction
is better.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainyard_schemas.trainers import TRAINERS, default_metric
from trainyard_trainer_worker.spec import Detail, clean, invalid_dataset, invalid_request

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of merit. `f1` is of the second class in sorted order for two classes, the macro mean for more;
    `roc_auc` is the mean of one-against-the-rest over the classes that are held out, where there are more than two."""

    name: str
    task_type: Literal["classification", "regression"]
    greater_is_better: bool


METRICS: Mapping[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", "classification", True),
        Metric("balanced_accuracy", "classification", True),
        Metric("f1", "classification", True),
        Metric("f1_macro", "classification", True),
        Metric("log_loss", "classification", False),
        Metric("roc_auc", "classification", True),
        Metric("rmse", "regression", False),
        Metric("mae", "regression", False),
        Metric("r2", "regression", True),
    )
}


@dataclass(frozen=True, slots=True)
class Predictions:
    """For classification `values` are class codes and `probabilities` has one column per class; for regression
    `values` are numbers and `probabilities` is None."""

    values: npt.NDArray[Any]
    probabilities: Floats | None


def choose_metric(asked: str | None, trainer: str, task_type: str) -> Metric:
    """The metric of a run: what was asked for, else the registry's default. Raises AttemptError(metric_unknown)."""
    known = [m.name for m in METRICS.values() if m.task_type == task_type]
    name = asked or (default_metric(trainer, task_type) if trainer in TRAINERS else known[0])
    if name not in known:
        raise invalid_request(
            Detail.METRIC_UNKNOWN, f"metric is {clean(name)}; for {task_type} use one of {', '.join(known)}"
        )
    return METRICS[name]


def positive_class(classes: Sequence[Any]) -> Any:
    """The class that `f1` is of, and which the scores of `roc_auc` are for, where there are two; else None."""
    return classes[1] if len(classes) == 2 else None


def predict(pipeline: Any, features: pd.DataFrame, n_classes: int) -> Predictions:
    """Ask a fitted pipeline. Its classes may be a part of 0..n_classes-1 (a class can be absent from training)."""
    if n_classes == 0:
        return Predictions(np.asarray(pipeline.predict(features), dtype=np.float64).ravel(), None)
    raw = np.asarray(pipeline.predict_proba(features), dtype=np.float64)
    present = np.asarray(pipeline.classes_, dtype=np.int64)
    probabilities = np.zeros((len(features), n_classes), dtype=np.float64)
    probabilities[:, present] = raw
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Predictions(present[np.argmax(raw, axis=1)], probabilities)


def baseline(train_target: npt.NDArray[Any], n_rows: int, n_classes: int) -> Predictions:
    """What one would say without looking: the training part's mean, or its majority class and class shares."""
    if n_classes == 0:
        return Predictions(np.full(n_rows, float(np.mean(train_target))), None)
    shares = np.bincount(train_target, minlength=n_classes) / len(train_target)
    return Predictions(np.full(n_rows, int(np.argmax(shares)), dtype=np.int64), np.tile(shares, (n_rows, 1)))


def score(name: str, truth: npt.NDArray[Any], predictions: Predictions) -> float | None:
    """One metric; None where it is not defined (one class for all that tell classes apart, r2 of one row)."""
    value = _SCORERS[name](truth, predictions)
    return None if value is None or not np.isfinite(value) else float(value)


def score_all(task_type: str, truth: npt.NDArray[Any], predictions: Predictions) -> dict[str, float | None]:
    """Every metric that fits the task."""
    return {m.name: score(m.name, truth, predictions) for m in METRICS.values() if m.task_type == task_type}


def refuse_undefined(metric: Metric, train_target: npt.NDArray[Any], truth: npt.NDArray[Any], n_classes: int) -> None:
    """Raises AttemptError(metric_undefined) where no model could be measured by this metric on the held-out part."""
    defined(metric, score(metric.name, truth, baseline(train_target, len(truth), n_classes)), truth)


def defined(metric: Metric, value: float | None, truth: npt.NDArray[Any]) -> float:
    """`value`, or AttemptError(metric_undefined) where the held-out part does not allow this metric."""
    if value is not None:
        return value
    raise invalid_dataset(
        Detail.METRIC_UNDEFINED,
        f"{metric.name} is not defined on the held-out part: {len(truth)} rows with {len(np.unique(truth))} different "
        "label values; use a larger split.test_size or another metric",
    )


def _accuracy(truth: Ints, p: Predictions) -> float:
    return float(np.mean(truth == p.values))


def _has_one_class(truth: Ints) -> bool:
    """Nothing can be said then of how classes are told apart: whoever says the one is perfect."""
    return len(np.unique(truth)) < 2


def _balanced_accuracy(truth: Ints, p: Predictions) -> float | None:
    if _has_one_class(truth):
        return None
    from sklearn.metrics import recall_score

    # As balanced_accuracy_score, which warns where a class is predicted that the held-out part does not hold.
    return float(recall_score(truth, p.values, labels=np.unique(truth), average="macro", zero_division=0))


def _f1(truth: Ints, p: Predictions) -> float | None:
    if _has_one_class(truth):
        return None
    from sklearn.metrics import f1_score

    if p.probabilities is not None and p.probabilities.shape[1] > 2:
        return _f1_macro(truth, p)
    return float(f1_score(truth, p.values, pos_label=1, average="binary", zero_division=0))


def _f1_macro(truth: Ints, p: Predictions) -> float | None:
    if _has_one_class(truth):
        return None
    from sklearn.metrics import f1_score

    return float(f1_score(truth, p.values, average="macro", zero_division=0))


def _log_loss(truth: Ints, p: Predictions) -> float | None:
    from sklearn.metrics import log_loss

    if p.probabilities is None:
        return None
    return float(log_loss(truth, p.probabilities, labels=np.arange(p.probabilities.shape[1])))


def _roc_auc(truth: Ints, p: Predictions) -> float | None:
    from sklearn.metrics import roc_auc_score

    if p.probabilities is None:
        return None
    n_classes = p.probabilities.shape[1]
    asked = [1] if n_classes == 2 else range(n_classes)
    areas = [
        roc_auc_score(truth == code, p.probabilities[:, code])
        for code in asked
        if 0 < np.count_nonzero(truth == code) < len(truth)
    ]
    return float(np.mean(areas)) if areas else None


def _rmse(truth: Floats, p: Predictions) -> float:
    return float(np.sqrt(np.mean((truth - p.values) ** 2)))


def _mae(truth: Floats, p: Predictions) -> float:
    return float(np.mean(np.abs(truth - p.values)))


def _r2(truth: Floats, p: Predictions) -> float | None:
    spread = float(np.sum((truth - np.mean(truth)) ** 2))
    return None if spread == 0.0 else 1.0 - float(np.sum((truth - p.values) ** 2)) / spread


_SCORERS: Mapping[str, Callable[[npt.NDArray[Any], Predictions], float | None]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "log_loss": _log_loss,
    "roc_auc": _roc_auc,
    "rmse": _rmse,
    "mae": _mae,
    "r2": _r2,
}

IMPORTANCE_ROWS = 2_000
IMPORTANCE_REPEATS = 3


def permutation_importance(
    pipeline: Any,
    features: pd.DataFrame,
    truth: npt.NDArray[Any],
    metric: Metric,
    n_classes: int,
    seed: int,
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, float], Sequence[str]]:
    """How much worse `metric` gets on held-out rows when one column is shuffled (greater: relied on more).

    Returns the columns by falling importance, and those that `limit_s` left no time for. At most 2,000 rows are used,
    three shuffles a column.
    """
    random = np.random.RandomState(seed)
    if len(features) > IMPORTANCE_ROWS:
        picked = np.sort(random.permutation(len(features))[:IMPORTANCE_ROWS])
        features, truth = features.iloc[picked], truth[picked]
    sign = 1.0 if metric.greater_is_better else -1.0
    before = score(metric.name, truth, predict(pipeline, features, n_classes))
    ends = clock() + limit_s
    found: dict[str, float] = {}
    names = list(features.columns)
    for position, name in enumerate(names):
        if before is None or clock() > ends:
            return _ranked(found), names[position:]
        drops = []
        for _ in range(IMPORTANCE_REPEATS):
            shuffled = features.copy(deep=False)
            shuffled[name] = features[name].to_numpy()[random.permutation(len(features))]
            after = score(metric.name, truth, predict(pipeline, shuffled, n_classes))
            drops.append(0.0 if after is None else sign * (before - after))
        found[name] = float(np.mean(drops))
    return _ranked(found), []


def _ranked(found: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def mutual_information(
    features: pd.DataFrame,
    target: npt.NDArray[Any],
    discrete: npt.NDArray[np.bool_],
    is_classification: bool,
    seed: int,
) -> Floats:
    """How much each column of numbers tells of the target, in nats; `discrete` marks columns of codes."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    measure = mutual_info_classif if is_classification else mutual_info_regression
    values: Floats = measure(features, target, discrete_features=discrete, random_state=seed)
    return values
