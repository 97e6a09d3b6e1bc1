"""Run states for the planner's tests, made by the real fold from real facts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainyard_dispatcher.routing import Routing
from trainyard_schemas import events as ev
from trainyard_schemas.events import Fact, OriginRecord, make_event
from trainyard_schemas.ids import run_id_from_key
from trainyard_schemas.lifecycle import RunState, fold
from trainyard_schemas.upcasting import parse_request

ROUTING = Routing(
    by_trainer={"flaml": "services"},
    agents={"cpu": "cpu", "gpu": "gpu", "services": "services"},
    default_queue="default",
    images={},
)
ORIGIN = OriginRecord(topic="trainyard.runs.requested", partition=0, offset=7, timestamp_ms=1_000)


def request_body(**changes: Any) -> dict[str, Any]:
    """A small valid request, version 2."""
    return {
        "schema_version": 2,
        "trainer": "sklearn",
        "task_type": "classification",
        "dataset": {"type": "tabular", "uri": "wine.csv", "label": "target"},
        "run_name": "wine-run",
    } | changes


def accepted(key: str = "a", *, offset: int = 7, **changes: Any) -> ev.RunAccepted:
    """The `run.accepted` of a request under an idempotency key."""
    request = parse_request(request_body(**changes)).request
    return ev.RunAccepted(
        run_id=run_id_from_key("default", key),
        tenant="default",
        request=request.to_json(),
        request_digest=request.digest,
        original_schema_version=2,
        origin=ORIGIN.model_copy(update={"offset": offset}),
    )


def state_after(*facts: Fact, times: Iterable[float] = ()) -> RunState:
    """The state of one run after these facts, at offsets 0, 1, 2 ... and, unless given, the same times."""
    moments = list(times) or [float(i) for i in range(len(facts))]
    events = [make_event(f, source="test", writer="w", now=t) for f, t in zip(facts, moments, strict=True)]
    state = fold(enumerate(events))
    assert state is not None
    return state


def dispatched(run_id: str, task_id: str = "task-1", attempt: int = 1) -> ev.AttemptDispatched:
    return ev.AttemptDispatched(run_id=run_id, attempt=attempt, task_id=task_id, queue="cpu", queue_id="q-cpu")


def started(run_id: str, claim: str = "claim-0001", attempt: int = 1) -> ev.AttemptStarted:
    return ev.AttemptStarted(run_id=run_id, attempt=attempt, task_id=f"task-{attempt}", claim=claim, worker="w1")


def failed(run_id: str, reason: str, claim: str = "claim-0001", attempt: int = 1) -> ev.AttemptFailed:
    return ev.AttemptFailed.model_validate(
        {"run_id": run_id, "attempt": attempt, "claim": claim, "reason": reason, "message": "it broke"}
    )
