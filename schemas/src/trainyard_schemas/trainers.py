"""The registry of trainers: which there are, what they can train, and by which metric.

`trainer`, `task_type` and `metric` are plain strings on the wire; intake and the submitter check them against this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CLASSIFICATION_METRICS = ("accuracy", "balanced_accuracy", "f1", "f1_macro", "log_loss", "roc_auc")
REGRESSION_METRICS = ("rmse", "mae", "r2")
FORECAST_METRICS = ("MASE", "MAPE", "WQL")
DETECTION_METRICS = ("mAP50", "mAP50-95")


@dataclass(frozen=True, slots=True)
class Trainer:
    """One AutoML library as a request may name it.

    `metrics` maps each task type to its legal metrics, the first being the default. `extras` is the namespace of its
    own settings, `extras_aliases` what else is read as that namespace. `dataset_types` are the legal `dataset.type`.
    """

    name: str
    metrics: Mapping[str, tuple[str, ...]]
    dataset_types: tuple[str, ...]
    extras: str
    queue: str
    extras_aliases: tuple[str, ...] = ()


TRAINERS: Mapping[str, Trainer] = {
    t.name: t
    for t in (
        Trainer(
            "autogluon",
            {"classification": CLASSIFICATION_METRICS, "regression": (*REGRESSION_METRICS, *FORECAST_METRICS)},
            ("tabular",),
            extras="autogluon",
            queue="cpu",
        ),
        Trainer(
            "flaml",
            {"classification": CLASSIFICATION_METRICS, "regression": REGRESSION_METRICS},
            ("tabular",),
            extras="flaml",
            queue="cpu",
        ),
        Trainer(
            "sklearn",
            {"classification": CLASSIFICATION_METRICS, "regression": REGRESSION_METRICS},
            ("tabular",),
            extras="sklearn",
            queue="cpu",
        ),
        Trainer(
            "ultralytics",
            {"detection": DETECTION_METRICS},
            ("yolo",),
            extras="yolo",
            queue="gpu",
            extras_aliases=("ultralytics",),
        ),
    )
}

EXTRAS_NAMESPACES = frozenset(t.extras for t in TRAINERS.values())


def default_metric(trainer: str, task_type: str) -> str:
    """The metric of a request that names none. Raises KeyError for a pair that the registry does not hold."""
    return TRAINERS[trainer].metrics[task_type][0]
