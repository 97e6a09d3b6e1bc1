"""The fold: a run's state is `fold(lifecycle events in offset order)`, and nothing else.

One pure function that intake, planner, workers, metrics and audit share. The first legal record wins; a record that
the table does not allow changes nothing and is counted, with why. Whoever needs to know whether it won reads its
partition and looks for its own claim or task in the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from trainyard_schemas import events as ev
from trainyard_schemas.events import Event
from trainyard_schemas.vocabulary import EventType, Reason, RunPhase


class Verdict(StrEnum):
    """What became of one record in the fold."""

    WON = "won"  # it changed the state
    NOTED = "noted"  # legal, changes no state: queued, cancel requested, reprioritised
    DUPLICATE = "duplicate"  # the same fact again
    CONFLICT = "conflict"  # accepted again under the same key with another digest
    UNKNOWN_RUN = "unknown_run"  # before any accepted
    WRONG_ATTEMPT = "wrong_attempt"  # for an attempt that is over or not yet there
    WRONG_TASK = "wrong_task"  # of a task that did not win the attempt
    WRONG_CLAIM = "wrong_claim"  # by a worker that did not win the attempt
    ILLEGAL = "illegal"  # the table has no such step from here
    ENDED = "ended"  # after the terminal event

    @property
    def is_effective(self) -> bool:
        """True where the record counts."""
        return self in (Verdict.WON, Verdict.NOTED)


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as the log tells it. Times are the winning events' own, in seconds since the epoch.

    `offset` is that of the last effective record, `accepted_offset` of the winning `run.accepted`, both in the run's
    partition. `request` is the accepted request (version 2), `original_version` the version that it was sent in.
    `results` are those of the attempt that ended last.
    `lease_s` is how long the current attempt's worker may train without having read the log.
    `adopts_task` is the user's clone that the first attempt uses instead of a new ClearML task.
    `reprioritised_by` holds the ids of the commands that changed the priority, so that none of them counts twice.
    """

    run_id: str
    phase: RunPhase
    accepted_offset: int
    offset: int
    digest: str
    tenant: str
    request: Mapping[str, Any]
    accepted_at: float
    priority: int
    attempt: int = 0
    task_id: str | None = None
    queue: str | None = None
    queue_id: str | None = None
    dispatched_at: float | None = None
    queued_at: float | None = None
    claim: str | None = None
    worker: str | None = None
    started_at: float | None = None
    attempt_ended_at: float | None = None
    ended_at: float | None = None
    reason: Reason | None = None
    detail: str | None = None
    message: str = ""
    results: Mapping[str, Any] | None = None
    cancel_actor: str | None = None
    cancel_message: str = ""
    cancel_requested_at: float | None = None
    lease_s: float = 60.0
    adopts_task: str | None = None
    reprioritised_by: tuple[str, ...] = ()
    original_version: int | None = None

    @property
    def is_ended(self) -> bool:
        return self.phase.is_terminal


@dataclass(frozen=True, slots=True)
class Step:
    """The state after one record, and what became of that record."""

    state: RunState | None
    verdict: Verdict


Rule = Callable[[RunState, Event, int], RunState | Verdict]
"""What one kind of event, at this offset, does to an open run: the state with that offset, or why it does nothing."""

_ATTEMPT_OVER = frozenset({RunPhase.ATTEMPT_FAILED, RunPhase.ATTEMPT_LOST})
_BEFORE_RUN_FAILED = _ATTEMPT_OVER | {RunPhase.ACCEPTED}
_BEFORE_RUN_CANCELLED = _BEFORE_RUN_FAILED | {RunPhase.ATTEMPT_CANCELLED}


def apply(state: RunState | None, event: Event, offset: int) -> Step:
    """One step of the fold: `event` stood at `offset` of the run's partition, after all that made `state`.

    Guarantees: deterministic; a record that is not effective leaves `state` the same object; nothing follows a
    terminal state; a record that was effective once is never effective again.
    """
    fact = event.fact
    if state is None:
        return _first(event, offset)
    if isinstance(fact, ev.RunAccepted) and state.phase is not RunPhase.REJECTED:
        same = fact.request_digest == state.digest
        return Step(state, Verdict.DUPLICATE if same else Verdict.CONFLICT)
    if state.is_ended:
        return Step(state, Verdict.ENDED)
    rule = _RULES.get(fact.type)
    if rule is None:
        return Step(state, Verdict.ILLEGAL)
    outcome = rule(state, event, offset)
    if isinstance(outcome, Verdict):
        return Step(state, outcome)
    verdict = Verdict.WON if outcome.phase is not state.phase else Verdict.NOTED
    return Step(outcome, verdict)


def fold(events: Iterable[tuple[int, Event]]) -> RunState | None:
    """The state after all `(offset, event)` of one run, in offset order; None before the first `accepted`."""
    state: RunState | None = None
    for offset, event in events:
        state = apply(state, event, offset).state
    return state


def _first(event: Event, offset: int) -> Step:
    fact = event.fact
    if isinstance(fact, ev.RunAccepted):
        priority = fact.request.get("priority")
        return Step(
            RunState(
                run_id=fact.run_id,
                phase=RunPhase.ACCEPTED,
                accepted_offset=offset,
                offset=offset,
                digest=fact.request_digest,
                tenant=fact.tenant,
                request=fact.request,
                accepted_at=event.time,
                priority=priority if isinstance(priority, int) else 5,
                original_version=fact.original_schema_version,
                adopts_task=fact.adopts_task,
            ),
            Verdict.WON,
        )
    if isinstance(fact, ev.RunRejected):
        return Step(
            RunState(
                run_id=fact.run_id,
                phase=RunPhase.REJECTED,
                accepted_offset=offset,
                offset=offset,
                digest="",
                tenant="",
                request={"run_name": fact.run_name, "project": fact.project, "trainer": fact.trainer},
                accepted_at=event.time,
                ended_at=event.time,
                priority=0,
                reason=fact.reason,
                detail=fact.detail,
                message=fact.message,
            ),
            Verdict.WON,
        )
    return Step(None, Verdict.UNKNOWN_RUN)


def _dispatched(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.AttemptDispatched)
    if fact.attempt <= state.attempt:
        same = fact.attempt == state.attempt and fact.task_id == state.task_id
        return Verdict.DUPLICATE if same else Verdict.WRONG_ATTEMPT
    may_follow = state.phase is RunPhase.ACCEPTED or state.phase in _ATTEMPT_OVER
    if not may_follow:
        return Verdict.ILLEGAL
    if fact.attempt != state.attempt + 1:
        return Verdict.WRONG_ATTEMPT
    return replace(
        state,
        offset=offset,
        phase=RunPhase.DISPATCHED,
        attempt=fact.attempt,
        task_id=fact.task_id,
        queue=fact.queue,
        queue_id=fact.queue_id,
        dispatched_at=event.time,
        lease_s=fact.lease_s,
        queued_at=None,
        claim=None,
        worker=None,
        started_at=None,
        attempt_ended_at=None,
        reason=None,
        detail=None,
        message="",
        results=None,
    )


def _queued(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.AttemptQueued)
    if fact.attempt != state.attempt:
        return Verdict.WRONG_ATTEMPT
    if state.phase not in (RunPhase.DISPATCHED, RunPhase.STARTED):
        return Verdict.ILLEGAL
    if fact.task_id != state.task_id:
        return Verdict.WRONG_TASK
    if state.queued_at is not None:
        return Verdict.DUPLICATE
    return replace(state, offset=offset, queued_at=event.time)


def _started(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.AttemptStarted)
    if fact.attempt != state.attempt:
        return Verdict.WRONG_ATTEMPT
    if fact.task_id != state.task_id:
        return Verdict.WRONG_TASK
    if state.phase is not RunPhase.DISPATCHED:
        if state.claim is not None:
            return Verdict.DUPLICATE if fact.claim == state.claim else Verdict.WRONG_CLAIM
        return Verdict.ILLEGAL
    return replace(
        state, offset=offset, phase=RunPhase.STARTED, claim=fact.claim, worker=fact.worker, started_at=event.time
    )


def _succeeded(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.AttemptSucceeded)
    verdict = _only_claim_holder(state, fact.attempt, fact.claim, RunPhase.ATTEMPT_SUCCEEDED)
    if verdict is not None:
        return verdict
    return replace(
        state, offset=offset, phase=RunPhase.ATTEMPT_SUCCEEDED, attempt_ended_at=event.time, results=fact.results
    )


def _failed(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.AttemptFailed)
    if state.phase is RunPhase.DISPATCHED and fact.claim is None:
        if fact.attempt != state.attempt:
            return Verdict.WRONG_ATTEMPT
    else:
        verdict = _only_claim_holder(state, fact.attempt, fact.claim, RunPhase.ATTEMPT_FAILED)
        if verdict is not None:
            return verdict
    return replace(
        state,
        offset=offset,
        phase=RunPhase.ATTEMPT_FAILED,
        attempt_ended_at=event.time,
        reason=fact.reason,
        detail=fact.detail,
        message=fact.message,
        results=fact.results,
    )


def _attempt_cancelled(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.AttemptCancelled)
    if fact.attempt != state.attempt:
        return Verdict.WRONG_ATTEMPT
    if state.phase not in (RunPhase.DISPATCHED, RunPhase.STARTED):
        return Verdict.ILLEGAL
    if fact.claim is not None and fact.claim != state.claim:
        return Verdict.WRONG_CLAIM
    return replace(
        state,
        offset=offset,
        phase=RunPhase.ATTEMPT_CANCELLED,
        attempt_ended_at=event.time,
        reason=fact.reason,
        detail=fact.detail,
        message=fact.message,
    )


def _lost(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.AttemptLost)
    if fact.attempt != state.attempt:
        return Verdict.WRONG_ATTEMPT
    if state.phase is not RunPhase.STARTED:
        return Verdict.ILLEGAL
    if fact.claim is not None and fact.claim != state.claim:
        return Verdict.WRONG_CLAIM
    return replace(
        state,
        offset=offset,
        phase=RunPhase.ATTEMPT_LOST,
        attempt_ended_at=event.time,
        reason=Reason.WORKER_LOST,
        detail=None,
        message=fact.message,
    )


def _only_claim_holder(state: RunState, attempt: int, claim: str | None, already: RunPhase) -> Verdict | None:
    """None where the holder of the current claim speaks of its running attempt, else why not."""
    if attempt != state.attempt:
        return Verdict.WRONG_ATTEMPT
    if state.claim is None:
        return Verdict.ILLEGAL
    if claim != state.claim:
        return Verdict.WRONG_CLAIM
    if state.phase is not RunPhase.STARTED:
        return Verdict.DUPLICATE if state.phase is already else Verdict.ILLEGAL
    return None


def _run_end(phase: RunPhase, before: frozenset[RunPhase]) -> Rule:
    def rule(state: RunState, event: Event, offset: int) -> RunState | Verdict:
        if isinstance(event.fact, ev.RunEnd) and event.fact.attempt != state.attempt:
            return Verdict.WRONG_ATTEMPT
        if state.phase not in before:
            return Verdict.ILLEGAL
        ended = replace(state, offset=offset, phase=phase, ended_at=event.time)
        fact = event.fact
        if isinstance(fact, ev.RunFailed | ev.RunCancelled):
            ended = replace(ended, reason=fact.reason, detail=fact.detail, message=fact.message)
        return ended

    return rule


def _cancel_requested(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.RunCancelRequested)
    if state.cancel_actor is not None:
        return Verdict.DUPLICATE
    return replace(
        state, offset=offset, cancel_actor=fact.actor, cancel_message=fact.message, cancel_requested_at=event.time
    )


def _reprioritised(state: RunState, event: Event, offset: int) -> RunState | Verdict:
    fact = event.fact
    assert isinstance(fact, ev.RunReprioritised)
    if fact.command_id in state.reprioritised_by:
        return Verdict.DUPLICATE
    return replace(
        state, offset=offset, priority=fact.priority, reprioritised_by=(*state.reprioritised_by, fact.command_id)
    )


_RULES: Mapping[EventType, Rule] = {
    EventType.ATTEMPT_DISPATCHED: _dispatched,
    EventType.ATTEMPT_QUEUED: _queued,
    EventType.ATTEMPT_STARTED: _started,
    EventType.ATTEMPT_SUCCEEDED: _succeeded,
    EventType.ATTEMPT_FAILED: _failed,
    EventType.ATTEMPT_CANCELLED: _attempt_cancelled,
    EventType.ATTEMPT_LOST: _lost,
    EventType.RUN_COMPLETED: _run_end(RunPhase.COMPLETED, frozenset({RunPhase.ATTEMPT_SUCCEEDED})),
    EventType.RUN_FAILED: _run_end(RunPhase.FAILED, _BEFORE_RUN_FAILED),
    EventType.RUN_CANCELLED: _run_end(RunPhase.CANCELLED, _BEFORE_RUN_CANCELLED),
    EventType.RUN_CANCEL_REQUESTED: _cancel_requested,
    EventType.RUN_REPRIORITISED: _reprioritised,
}
