from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.submitter.story import REQUEST, Log, whole_life
from trainyard_devstack.demo_runs import DemoRun, demo_runs
from trainyard_schemas.ids import Origin, run_id_from_key
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.upcasting import parse_request
from trainyard_submitter.following import fold_runs

EXAMPLES = Path(__file__).parents[3] / "examples"
RUN = run_id_from_key("default", "k")


def state(steps: int = 6) -> RunState:
    facts = whole_life(RUN, Origin("trainyard.runs.requested", 0, 0, 0))[:steps]
    return fold_runs(Log().append(facts))[RUN]


def run(**bounds: float) -> DemoRun:
    return DemoRun(REQUEST, bounds.get("at_least"), bounds.get("at_most"))


def test_the_shipped_list_names_valid_requests_of_every_trainer_and_all_data_sets() -> None:
    runs = demo_runs(lambda path: (EXAMPLES / path).read_bytes())
    requests = [parse_request(one.request).request for one in runs]
    assert {request.trainer for request in requests} == {"autogluon", "flaml", "sklearn"}
    assert {request.dataset.uri for request in requests} == {
        "examples/wine.csv",
        "examples/breast_cancer.csv",
        "examples/diabetes.csv",
        "examples/travel_choice.csv",
    }
    assert any(request.split.method == "group_shuffle" for request in requests)
    assert 3 <= len(runs) <= 6
    for one, request in zip(runs, requests, strict=True):
        assert (one.at_most is not None) == (request.metric in ("rmse", "mae", "log_loss"))


def test_a_run_reaches_its_floor_only_when_it_completed_on_the_right_side_of_it() -> None:
    assert run(at_least=0.95).is_reached(state())
    assert not run(at_least=0.98).is_reached(state())
    assert not run(at_least=0.95).is_reached(state(steps=5))
    assert not run(at_least=0.95).is_reached(None)


def test_a_value_that_must_be_low_is_compared_the_other_way_and_with_the_baseline_too() -> None:
    # The value is 0.9722 and the baseline 0.3889: low enough, and still worse than guessing.
    assert not run(at_most=1.0).is_reached(state())
    assert not run(at_most=0.5).is_reached(state())


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "runs is missing or empty"),
        ({"runs": [{"request": "r.json"}]}, r"runs\.0 needs"),
        ({"runs": [{"request": "r.json", "at_least": 1, "at_most": 1}]}, r"runs\.0 needs"),
        ({"runs": [{"at_least": 1}]}, r"runs\.0 needs"),
    ],
)
def test_a_list_that_cannot_be_used_says_where_it_is_wrong(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        demo_runs(lambda _: json.dumps(document).encode())
