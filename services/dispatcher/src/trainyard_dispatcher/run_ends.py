"""How runs end: the terminal facts, and the answer to a request that lost its key. Pure."""

from __future__ import annotations

from typing import Any

from trainyard_dispatcher.task_body import project_name, run_name
from trainyard_schemas import events as ev
from trainyard_schemas.envelope import format_time
from trainyard_schemas.ids import Origin, run_id_from_origin
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason, RunPhase

Why = tuple[Reason, str | None, str]
"""A reason, a detail code, and a sentence."""


def run_end(state: RunState, now: float, why: Why | None = None) -> ev.Fact:
    """The terminal fact of a run, made of its state alone: any planner makes the same one but for its time.

    `why` is for a run that fails for something that the log does not hold yet.
    """
    request = state.request
    ended_at = state.attempt_ended_at if state.attempt_ended_at is not None else now
    common: dict[str, Any] = {
        "run_id": state.run_id,
        "run_name": run_name(request, state.run_id),
        "project": project_name(request),
        "trainer": str(request.get("trainer")),
        "tags": tuple(request.get("tags") or ()),
        "attempt": state.attempt,
        "task_id": state.task_id,
        "queue": state.queue,
        "worker": state.worker,
        "accepted_at": format_time(state.accepted_at),
        "dispatched_at": _time(state.dispatched_at),
        "started_at": _time(state.started_at),
        "ended_at": format_time(ended_at),
        "seconds": seconds_of(state, ended_at),
        "retry_of": request.get("retry_of"),
        "results": dict(state.results or {}),
    }
    if state.phase is RunPhase.ATTEMPT_SUCCEEDED:
        return ev.RunCompleted.model_validate(common)
    if state.phase is RunPhase.ATTEMPT_CANCELLED:
        return ev.RunCancelled.model_validate(common | _why(state.reason or Reason.USER, state.detail, state.message))
    if state.cancel_actor is not None:
        return ev.RunCancelled.model_validate(common | _why(Reason.USER, None, cancelled_by(state)))
    reason, detail, message = why or (state.reason or Reason.INTERNAL, state.detail, state.message)
    return ev.RunFailed.model_validate(common | _why(reason, detail, message))


def cancelled_by(state: RunState) -> str:
    """Who asked for the end of the run, and why, as a sentence."""
    return f"cancelled by {state.cancel_actor}" + (f": {state.cancel_message}" if state.cancel_message else "")


def seconds_of(state: RunState, ended_at: float) -> dict[str, float]:
    """How long the run waited for a place in a queue (before its first attempt) and for a worker, how long its last

    attempt took, and all of it. Times come from several hosts' clocks: what would be negative is 0.
    """
    spans = {
        "backlog": (state.accepted_at, state.dispatched_at),
        "queue": (state.dispatched_at, state.started_at),
        "attempt": (state.started_at, state.attempt_ended_at),
        "total": (state.accepted_at, ended_at),
    }
    return {
        name: round(max(0.0, until - since), 3)
        for name, (since, until) in spans.items()
        if since is not None and until is not None and (name != "backlog" or state.attempt == 1)
    }


def conflict_answer(losing: ev.RunAccepted) -> ev.RunRejected:
    """What a request is told that came second under its key, with another content."""
    origin = losing.origin
    keyed = losing.request.get("idempotency_key") is not None
    held = "idempotency_key" if keyed else "CloudEvent source and id"
    message = f"another request holds the same {held}: run {losing.run_id}; send a new one, or the same request"
    return ev.RunRejected(
        run_id=run_id_from_origin(
            losing.tenant, Origin(origin.topic, origin.partition, origin.offset, origin.timestamp_ms)
        ),
        reason=Reason.INVALID_REQUEST,
        detail="idempotency_conflict",
        message=message,
        errors=(ev.FieldProblem(path="idempotency_key" if keyed else "id", message=message),),
        origin=origin,
        run_name=run_name(losing.request, losing.run_id),
        project=project_name(losing.request),
        trainer=str(losing.request.get("trainer")),
        conflicts_with=losing.run_id,
    )


def _time(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else format_time(epoch_s)


def _why(reason: Reason, detail: str | None, message: str) -> dict[str, Any]:
    return {"reason": reason, "detail": detail, "message": message}
