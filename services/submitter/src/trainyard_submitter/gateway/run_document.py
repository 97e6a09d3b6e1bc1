"""A run as the page and its API show it: one row of the table, or everything about one run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainyard_schemas import events as ev
from trainyard_schemas.codec import printable
from trainyard_schemas.envelope import format_time
from trainyard_schemas.events import Event
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import EventType, RunPhase
from trainyard_submitter import runs_view
from trainyard_submitter.explaining import QueueFacts, why
from trainyard_submitter.following import Followed

Json = dict[str, Any]

_DOING = {
    RunPhase.ACCEPTED: "waits for its turn",
    RunPhase.DISPATCHED: "in the queue",
    RunPhase.STARTED: "training",
    RunPhase.ATTEMPT_SUCCEEDED: "closing",
    RunPhase.ATTEMPT_CANCELLED: "closing",
    RunPhase.ATTEMPT_FAILED: "between attempts",
    RunPhase.ATTEMPT_LOST: "between attempts",
}
"""What a run is at in each state that is not an end."""

_ROW = (
    "run_id", "run_name", "project", "trainer", "state", "attempt", "queue", "worker", "priority", "accepted_at",
    "started_at", "ended_at", "reason", "detail", "metric", "value", "baseline",
)  # fmt: skip


def row(state: RunState, known: Json | None) -> Json:
    """One row of the table; `known` is the latest progress."""
    whole = runs_view.run_json(state)
    whole["run_name"] = printable(whole["run_name"], 200) if whole["run_name"] else None
    return {name: whole[name] for name in _ROW} | {
        "message": printable(state.message, 300),
        "cancel_requested": state.cancel_actor is not None,
        "progress": known,
    }


def progress(event: Event) -> Json:
    """A sign of life: phase, step of total, seconds left, and the worker's metrics."""
    fact = event.fact
    assert isinstance(fact, ev.AttemptHeartbeat)
    return {
        "time": format_time(event.time),
        "seq": fact.seq,
        "phase": fact.phase,
        "step": fact.step,
        "total": fact.total,
        "eta_s": fact.eta_s,
        "metrics": fact.metrics,
    }


def document(history: Sequence[Followed], now: float, queue: QueueFacts | None) -> Json:
    """Everything of one run, from the events that count in its fold, in log order; there is at least one."""
    state = history[-1].state
    assert state is not None
    return runs_view.run_json(state) | {
        "request": dict(state.request),
        "results": dict(state.results or {}),
        "artifacts": runs_view.files_of(state),
        "why": why(history, now, queue),
        "timeline": timeline(history),
        "events": [_event(followed) for followed in history],
        "cancel_requested": state.cancel_actor is not None,
    }


def timeline(history: Sequence[Followed]) -> list[Json]:
    """The phases of a run: what it was at, in which attempt, from when to when (None: until now), and how long."""
    phases: list[Json] = []
    before: RunState | None = None
    for followed in history:
        state = followed.state
        if state is None or (before is not None and state.phase is before.phase):
            continue
        _end(phases, followed.event.time)
        before = state
        if state.phase in _DOING:
            phases.append(
                {
                    "phase": _DOING[state.phase],
                    "attempt": state.attempt,
                    "where": state.worker if state.phase is RunPhase.STARTED else state.queue,
                    "from": format_time(followed.event.time),
                    "from_s": followed.event.time,
                    "to": None,
                    "seconds": None,
                }
            )
    for phase in phases:
        del phase["from_s"]
    return phases


def _end(phases: list[Json], at: float) -> None:
    if phases:
        # Two hosts' clocks may disagree; a negative duration would only confuse.
        phases[-1] |= {"to": format_time(at), "seconds": round(max(0.0, at - phases[-1]["from_s"]), 3)}


def _event(followed: Followed) -> Json:
    shown = runs_view.event_json(followed) | {"text": runs_view.headline(followed)}
    if followed.event.type in (EventType.ATTEMPT_SUCCEEDED, EventType.RUN_COMPLETED, EventType.RUN_ACCEPTED):
        del shown["data"]  # the request and the results stand in the document once
    return shown
