"""From a request and its table to two parts: what cannot be divided is named before anything is fitted."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
import pytest

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, parse_request
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.evaluation import METRICS
from trainyard_trainer_worker.training.frames import make_target
from trainyard_trainer_worker.training.preparation import Loaded, divide


def refusal(label: Sequence[object], task_type: str, metric: str, test_size: float) -> AttemptError:
    """What is said of a table with this label when so much of it is held out."""
    table = pd.DataFrame({"x": range(len(label)), "y": label})
    loaded = Loaded(table, make_target(table, "y", task_type), METRICS[metric], "t.csv", "", 0)
    request = parse_request(
        {"trainer": "sklearn", "dataset": {"type": "tabular", "label": "y"}, "split": {"test_size": test_size}}
    )
    with pytest.raises(AttemptError) as caught:
        divide(request, loaded, Emitter(None))
    return caught.value


def test_a_class_that_is_not_held_out_is_named() -> None:
    table = pd.DataFrame({"x": range(60), "y": ["a", "b"] * 29 + ["a", "rare"]})
    loaded = Loaded(table, make_target(table, "y", "classification"), METRICS["accuracy"], "t.csv", "", 0)
    emitter = Emitter(None)
    divide(parse_request({"trainer": "sklearn", "dataset": {"type": "tabular", "label": "y"}}), loaded, emitter)
    assert emitter.warnings == [
        "the held-out part has no row of 'rare', and its metrics say nothing of that; use a larger split.test_size"
    ]


def test_a_split_that_leaves_hardly_a_row_is_refused_before_a_library_fails_on_it() -> None:
    error = refusal([i / 7 for i in range(30)], "regression", "rmse", 0.9999)
    assert (error.reason, error.detail) == (Reason.INVALID_DATASET, "too_few_rows")
    assert re.search(r"leaves 1 rows for training.*split\.test_size", error.message)


def test_a_split_that_trains_on_one_class_is_the_datasets_fault() -> None:
    error = refusal(["a", "b"] * 6, "classification", "balanced_accuracy", 0.95)
    assert (error.reason, error.detail) == (Reason.INVALID_DATASET, "one_class")
    assert re.search(r"one class.*split\.test_size", error.message)
