"""The next step of one run that needs no room in a queue. Pure and level-triggered.

Healing after a crash, what a user does in ClearML's UI, lost workers, cancelling and limits of time are all cases of
the same question: what does the log say, what does ClearML show, and what follows from both?
"""

from __future__ import annotations

from trainyard_dispatcher.actions import Action, Append, Dispatch, Enqueue, ReadStatus, Reset, Restart
from trainyard_dispatcher.known import Known, Limits
from trainyard_dispatcher.ports import TaskStatus
from trainyard_dispatcher.retrying import may_dispatch, waits_too_long
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.run_ends import Why, cancelled_by, run_end
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason, RunPhase

MAX_RESETS = 5
"""So often a task is given back to its queue after somebody ran it who never claimed the attempt."""


def next_action(
    state: RunState, known: Known, routing: Routing, limits: Limits, vigil: Vigil, now: float, steady: float
) -> Action | None:
    """The next step of one run; None where there is nothing to do now.

    `now` is on the wall clock, `steady` on this process's steady one, in seconds.
    """
    if now < known.retry_at or (known.appended_at == state.offset and now < known.visible_by):
        return None
    match state.phase:
        case RunPhase.DISPATCHED:
            return _toward_worker(state, known, limits, now, steady)
        case RunPhase.STARTED:
            return _while_started(state, known, limits, vigil, now, steady)
        case RunPhase.ATTEMPT_SUCCEEDED | RunPhase.ATTEMPT_CANCELLED:
            return _append(state, run_end(state, now))
        case RunPhase.ACCEPTED | RunPhase.ATTEMPT_FAILED | RunPhase.ATTEMPT_LOST:
            return _between_attempts(state, known, routing, limits, now)
        case _:
            return None


def _between_attempts(state: RunState, known: Known, routing: Routing, limits: Limits, now: float) -> Action | None:
    if not may_dispatch(state):
        return _append(state, run_end(state, now))
    if known.refused is not None:
        detail, message = known.refused
        return _append(state, run_end(state, now, (Reason.CLEARML_REJECTED, detail, message)))
    if waits_too_long(state, now):
        return _append(state, run_end(state, now, _queue_timeout(state)))
    if known.task_id is not None and known.attempt == state.attempt + 1:
        queue = routing.queue(state.request)
        return Dispatch(state.run_id, known.attempt, known.task_id, queue, limits.lease_s, state.offset)
    return None


def _toward_worker(state: RunState, known: Known, limits: Limits, now: float, steady: float) -> Action | None:
    """Dispatched: the winning task gets into its queue, whoever created it, and stays there until it is claimed."""
    assert state.task_id is not None
    mine = known.task_id == state.task_id
    if state.cancel_actor is not None:
        return _append(state, _cancelled(state, None, cancelled_by(state)))
    if waits_too_long(state, now):
        return _append(state, _failed(state, _queue_timeout(state)))
    if mine and known.refused is not None:
        return _append(state, _failed(state, (Reason.CLEARML_REJECTED, *known.refused)))
    match known.status if mine else None:
        case None:
            return ReadStatus(state.run_id, state.task_id)
        case TaskStatus.CREATED:
            return Enqueue(state.run_id, state.task_id, state.queue_id or "")
        case TaskStatus.QUEUED:
            return _while_queued(state, known, limits, steady)
        case TaskStatus.MISSING:
            return _append(state, _cancelled(state, "task_deleted", "its ClearML task was deleted"))
        case TaskStatus.STOPPED:
            return _append(state, _cancelled(state, "task_stopped", "its ClearML task was stopped"))
        case TaskStatus.PUBLISHED:
            why = (Reason.CLEARML_REJECTED, "task_published", "its ClearML task was published before it was trained")
            return _append(state, _failed(state, why))
        case _:
            return _while_run_by_others(state, known, limits, steady)


def _while_queued(state: RunState, known: Known, limits: Limits, steady: float) -> Action | None:
    assert state.task_id is not None
    adopted = state.adopts_task == state.task_id
    if state.queued_at is None:
        if adopted and known.absent_since is not None:  # whoever popped the clone did not train it, but asked
            return Enqueue(state.run_id, state.task_id, state.queue_id or "")
        queued = ev.AttemptQueued(
            run_id=state.run_id, attempt=state.attempt, task_id=state.task_id, queue=state.queue or ""
        )
        return _append(state, queued)
    if known.absent_since is not None and steady - known.absent_since >= limits.pop_grace_s:
        return Enqueue(state.run_id, state.task_id, state.queue_id or "")
    return None


def _while_run_by_others(state: RunState, known: Known, limits: Limits, steady: float) -> Action | None:
    """In progress, completed or failed in ClearML, and nobody claimed the attempt in the log: no act of a user."""
    assert state.task_id is not None
    if not known.alive_at or steady - known.alive_at < limits.agent_grace_s:
        return None
    if known.resets >= MAX_RESETS:
        why = (
            Reason.CLEARML_REJECTED,
            "never_claimed",
            f"its ClearML task was run {known.resets} times by something that never claimed the attempt; look at the "
            "console of the task and at the agent that serves the queue",
        )
        return _append(state, _failed(state, why))
    return Reset(state.run_id, state.task_id)


def _while_started(
    state: RunState, known: Known, limits: Limits, vigil: Vigil, now: float, steady: float
) -> Action | None:
    assert state.task_id is not None
    assert state.claim is not None
    if state.cancel_requested_at is not None and now > state.cancel_requested_at + limits.cancel_grace_s:
        return _append(state, _cancelled(state, None, cancelled_by(state)))
    silence_s = vigil.silence_s(state.claim, steady)
    if silence_s >= limits.silence_s:
        lost = ev.AttemptLost(
            run_id=state.run_id,
            attempt=state.attempt,
            task_id=state.task_id,
            claim=state.claim,
            message=f"no sign of life of {state.worker} for {silence_s:.0f} s",
        )
        return _append(state, lost)
    if known.task_id != state.task_id or known.seen_claim != state.claim:
        return None  # ClearML has not been seen since this worker claimed the attempt
    match known.status:
        case TaskStatus.STOPPED:
            return _append(state, _cancelled(state, "task_stopped", "its ClearML task was stopped by a user"))
        case TaskStatus.MISSING:
            return _append(state, _cancelled(state, "task_deleted", "its ClearML task was deleted by a user"))
        case TaskStatus.CREATED if known.was_reset_by_us:
            return Restart(state.run_id, state.task_id)
        case TaskStatus.CREATED:
            return _append(state, _cancelled(state, "task_reset", "its ClearML task was reset by a user"))
        case _:
            return None


def _queue_timeout(state: RunState) -> Why:
    ttl_s = state.request.get("queue_ttl_s")
    return Reason.QUEUE_TIMEOUT, None, f"no worker took it within its queue_ttl_s of {ttl_s:g} s"


def _append(state: RunState, fact: ev.Fact) -> Append:
    return Append(state.run_id, fact, state.offset)


def _failed(state: RunState, why: Why) -> ev.AttemptFailed:
    reason, detail, message = why
    return ev.AttemptFailed(
        run_id=state.run_id,
        attempt=state.attempt,
        task_id=state.task_id,
        reason=reason,
        detail=detail,
        message=message,
    )


def _cancelled(state: RunState, detail: str | None, message: str) -> ev.AttemptCancelled:
    return ev.AttemptCancelled(
        run_id=state.run_id, attempt=state.attempt, task_id=state.task_id, detail=detail, message=message
    )
