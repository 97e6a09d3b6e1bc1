"""A `run.accepted` that intake never wrote must not stop a planner that reads it."""

from __future__ import annotations

from typing import Any

import pytest

from trainyard_schemas import events as ev
from trainyard_schemas.errors import Invalid

REQUEST: dict[str, Any] = {
    "trainer": "sklearn",
    "task_type": "classification",
    "dataset": {"type": "tabular", "uri": "wine.csv", "label": "class", "clearml": None},
    "retry": {"max_attempts": 3, "on": ["worker_lost"], "backoff_s": 10.0},
    "run_name": None,
}


def read_back(request: dict[str, Any]) -> ev.Fact:
    fact = ev.RunAccepted(
        run_id="11111111-2222-5333-8444-555555555555",
        tenant="default",
        request=request,
        request_digest="d",
        original_schema_version=2,
        origin=ev.OriginRecord(topic="t", partition=0, offset=0, timestamp_ms=0),
    )
    return ev.decode_event(*ev.encode_event(ev.make_event(fact, source="s", writer="w", now=0.0))).fact


def test_a_request_with_fields_of_a_later_version_is_read() -> None:
    request = REQUEST | {"colour": {"of": "later"}}
    fact = read_back(request)
    assert isinstance(fact, ev.RunAccepted)
    assert fact.request == request


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"trainer": None}, "trainer"),
        ({"trainer": ["sklearn"]}, "trainer"),
        ({"run_name": 5}, "run_name"),
        ({"dataset": "wine.csv"}, "dataset"),
        ({"dataset": {"clearml": "id"}}, "dataset.clearml"),
        ({"retry": {"max_attempts": "many"}}, "retry.max_attempts"),
        ({"retry": {"backoff_s": True}}, "retry.backoff_s"),
        ({"tags": "x"}, "tags"),
        ({"priority": "high"}, "priority"),
        ({"time_budget_s": "NaN"}, "time_budget_s"),
        ({"extras": 3}, "extras"),
    ],
)
def test_a_request_that_nobody_could_work_with_is_no_event(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_back(REQUEST | changes)
    assert caught.value.errors[0].path == f"data.request.{path}"
