"""From a request and its table to two parts: what cannot be divided is named before anything is fitted."""

from __future__ import annotations

import pandas as pd
import pytest

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, parse_request
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.evaluation import METRICS
from trainyard_trainer_worker.training.frames import make_target
from trainyard_trainer_worker.training.preparation import Loaded, divide


def test_a_split_that_trains_on_one_class_is_the_datasets_fault() -> None:
    table = pd.DataFrame({"x": range(12), "y": ["a", "b"] * 6})
    target = make_target(table, "y", "classification")
    loaded = Loaded(table, target, METRICS["balanced_accuracy"], "t.csv", "", 0)
    request = parse_request(
        {"trainer": "sklearn", "dataset": {"type": "tabular", "label": "y"}, "split": {"test_size": 0.95}}
    )
    with pytest.raises(AttemptError, match=r"one class.*split\.test_size") as caught:
        divide(request, loaded, Emitter(None))
    assert (caught.value.reason, caught.value.detail) == (Reason.INVALID_DATASET, "one_class")
