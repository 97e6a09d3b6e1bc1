from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import (
    Artifact,
    AttemptError,
    AttemptSpec,
    Failed,
    FetchedData,
    ModelFile,
    Outcome,
    Stopped,
    Succeeded,
    clean,
    listed,
    outcome_from_json,
    outcome_to_json,
    parse_request,
)

REQUEST: dict[str, Any] = {
    "trainer": "sklearn",
    "dataset": {"type": "tabular", "uri": "examples/wine.csv", "label": "cultivar"},
    "time_budget_s": 5,
}


def test_a_spec_survives_its_json_form() -> None:
    spec = AttemptSpec("r", 2, "c", REQUEST, "w", ("a", "b"), 30.0, n_jobs=2, memory_limit_bytes=1 << 30)
    assert AttemptSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    fetched = replace(spec, data=FetchedData("/srv/dataset.csv", "s3://bucket/a.csv", "ab", 3, "id"))
    assert AttemptSpec.from_json(json.loads(json.dumps(fetched.to_json()))) == fetched


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded({"value": 0.5}, ModelFile("model.tar.gz", "ab", 3), (Artifact("log", "a.log", "text/plain"),)),
        Failed(Reason.INVALID_DATASET, "label_missing", "there is no column", {"seconds": {}}),
        Stopped(Reason.USER),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_an_outcome_survives_its_json_form(outcome: Outcome) -> None:
    assert outcome_from_json(json.loads(json.dumps(outcome_to_json(outcome)))) == outcome


def test_an_unknown_state_is_no_outcome() -> None:
    with pytest.raises(ValueError, match="none of succeeded"):
        outcome_from_json({"state": "happy", "artifacts": []})


def test_defaults_are_applied_to_a_short_request() -> None:
    request = parse_request(REQUEST)
    assert (request.split_method, request.test_size, request.seed) == ("row_shuffle", 0.2, 42)
    assert (request.metric, request.task_type, request.group_key) == (None, None, ())


def test_only_the_trainers_own_extras_are_kept() -> None:
    request = parse_request({**REQUEST, "extras": {"sklearn": {"estimator": "ridge"}, "flaml": {"summary": True}}})
    assert request.extras == {"estimator": "ridge"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dataset": {"type": "tabular", "uri": "x"}}, "dataset.label"),
        ({"dataset": {"type": "yolo", "uri": "x", "label": "y"}}, "dataset.type"),
        ({"dataset": None}, "dataset"),
        ({"split": {"method": "alphabetical"}}, "split.method"),
        ({"split": {"method": "group_shuffle"}}, "group_key"),
        ({"split": {"test_size": 1.0}}, "split.test_size"),
        ({"split": {"test_size": float("nan")}}, "split.test_size"),
        ({"split": {"random_seed": 1 << 32}}, "split.random_seed"),
        ({"time_budget_s": "long"}, "time_budget_s"),
        ({"extras": {"sklearn": [1]}}, "extras.sklearn"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(AttemptError) as caught:
        parse_request({**REQUEST, **change})
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.message.startswith(field)


def test_foreign_text_is_made_harmless_in_messages() -> None:
    assert clean("a\x1b[31m\n\u202eb\ud800") == r"'a\x1b[31m\n\u202eb\ud800'"
    assert len(clean("x" * 10_000)) < 100
    assert listed([f"c{i}" for i in range(30)]).endswith("and 10 more")
