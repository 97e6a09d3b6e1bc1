"""When another attempt may follow, and from when on. Pure."""

from __future__ import annotations

from trainyard_dispatcher.known import lease_is_over_after_s
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.runs import Retry
from trainyard_schemas.vocabulary import RunPhase

_AFTER_AN_ATTEMPT = (RunPhase.ATTEMPT_FAILED, RunPhase.ATTEMPT_LOST)


def retry_of(state: RunState) -> Retry:
    """The request's retry policy."""
    return Retry.model_validate(state.request.get("retry") or {}, strict=False)


def may_dispatch(state: RunState) -> bool:
    """True where the table and the request's retry policy allow another attempt."""
    if state.cancel_actor is not None:
        return False
    if state.phase is RunPhase.ACCEPTED:
        return True
    if state.phase not in _AFTER_AN_ATTEMPT:
        return False
    retry = retry_of(state)
    return state.reason in retry.on and state.attempt < retry.max_attempts


def is_due(state: RunState, vigil: Vigil, now: float, steady: float) -> bool:
    """True where the next attempt may be made now: after the backoff, which doubles from one attempt to the next, and,

    after a lost one, once its worker has certainly stopped. `now` on the wall clock, `steady` on the steady one.
    """
    if state.attempt == 0 or state.attempt_ended_at is None:
        return True
    if now < state.attempt_ended_at + retry_of(state).backoff_s * 2.0 ** (state.attempt - 1):
        return False
    if state.phase is not RunPhase.ATTEMPT_LOST:
        return True
    return vigil.since_lost_s(state.run_id, state.attempt, steady) >= lease_is_over_after_s(state.lease_s)


def waits_too_long(state: RunState, now: float) -> bool:
    """True where no worker took the run within its `queue_ttl_s`, counted from when it began to wait."""
    ttl_s = state.request.get("queue_ttl_s")
    if not isinstance(ttl_s, int | float) or isinstance(ttl_s, bool):
        return False
    since = state.accepted_at
    if state.phase is RunPhase.DISPATCHED and state.attempt > 1 and state.dispatched_at is not None:
        since = state.dispatched_at
    elif state.attempt_ended_at is not None:
        since = state.attempt_ended_at + retry_of(state).backoff_s * 2.0 ** max(0, state.attempt - 1)
    return now > since + ttl_s
