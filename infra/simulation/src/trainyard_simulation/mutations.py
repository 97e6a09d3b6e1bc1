"""Holes to tear into the protocol on purpose: a simulation that does not notice them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from trainyard_dispatcher import actions, executor, lead, next_step, retrying, surveying
from trainyard_dispatcher.actions import Action
from trainyard_dispatcher.known import Known
from trainyard_schemas import lifecycle
from trainyard_schemas.events import AttemptDispatched, AttemptStarted, Event
from trainyard_schemas.lifecycle import Rule, RunState, Verdict
from trainyard_schemas.vocabulary import EventType, RunPhase
from trainyard_trainer_worker import protocol
from trainyard_trainer_worker.lease import Lease


@contextmanager
def _replaced(module: ModuleType, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, make(original))
    try:
        yield
    finally:
        setattr(module, name, original)


@contextmanager
def _rule_replaced(event_type: EventType, make: Callable[[Rule], Rule]) -> Iterator[None]:
    rules: Any = lifecycle._RULES
    original = rules[event_type]
    rules[event_type] = make(original)
    try:
        yield
    finally:
        rules[event_type] = original


def _last_dispatched_wins() -> AbstractContextManager[None]:
    """The fold takes every `dispatched` of an attempt that nobody has claimed, not only the first."""

    def make(original: Rule) -> Rule:
        def rule(state: RunState, event: Event, offset: int) -> RunState | Verdict:
            fact = event.fact
            assert isinstance(fact, AttemptDispatched)
            if state.phase is RunPhase.DISPATCHED and fact.attempt == state.attempt and fact.task_id != state.task_id:
                return replace(state, offset=offset, task_id=fact.task_id, queued_at=None)
            return original(state, event, offset)

        return rule

    return _rule_replaced(EventType.ATTEMPT_DISPATCHED, make)


def _last_started_wins() -> AbstractContextManager[None]:
    """The fold takes every `started` of the attempt's task, not only the first."""

    def make(original: Rule) -> Rule:
        def rule(state: RunState, event: Event, offset: int) -> RunState | Verdict:
            fact = event.fact
            assert isinstance(fact, AttemptStarted)
            if state.phase is RunPhase.STARTED and fact.task_id == state.task_id and fact.claim != state.claim:
                return replace(state, offset=offset, claim=fact.claim, worker=fact.worker)
            return original(state, event, offset)

        return rule

    return _rule_replaced(EventType.ATTEMPT_STARTED, make)


def _no_status_reread() -> AbstractContextManager[None]:
    """After an enqueue with an unknown outcome the task is enqueued again, whatever its status is by then."""

    def make(original: Callable[[Action, Known], Known]) -> Callable[[Action, Known], Known]:
        def forget(action: Action, known: Known) -> Known:
            return known if isinstance(action, actions.Enqueue) else original(action, known)

        return forget

    return _replaced(executor, "_forget", make)


def _no_healing() -> AbstractContextManager[None]:
    """A planner never looks at the winning task of an attempt that it did not just create itself."""

    def make(original: Callable[..., Action | None]) -> Callable[..., Action | None]:
        def toward_worker(*arguments: Any) -> Action | None:
            action = original(*arguments)
            return None if isinstance(action, actions.ReadStatus) else action

        return toward_worker

    return _replaced(next_step, "_toward_worker", make)


def _any_claim_trains() -> AbstractContextManager[None]:
    """A worker trains once its `started` is acknowledged, without looking whether it won."""
    return _replaced(protocol, "claim_won", lambda _: lambda *_arguments: True)


def _conflicts_ignored() -> AbstractContextManager[None]:
    """A planner does not answer the request that lost its key to another one."""
    return _replaced(lead, "reject_conflicts", lambda _: lambda *_arguments: [])


def _any_task_starts() -> AbstractContextManager[None]:
    """A worker claims an attempt with whatever task it popped, and the fold takes that."""

    def make(original: Rule) -> Rule:
        def rule(state: RunState, event: Event, offset: int) -> RunState | Verdict:
            fact = event.fact
            assert isinstance(fact, AttemptStarted)
            return original(replace(state, task_id=fact.task_id), event, offset)

        return rule

    @contextmanager
    def both() -> Iterator[None]:
        def careless(original: Callable[..., bool]) -> Callable[..., bool]:
            def dispatched_here(state: RunState | None, marker: Any, _task_id: str) -> bool:
                return state is not None and original(state, marker, state.task_id)

            return dispatched_here

        with _rule_replaced(EventType.ATTEMPT_STARTED, make), _replaced(protocol, "dispatched_here", careless):
            yield

    return both()


def _no_waiting_after_lost() -> AbstractContextManager[None]:
    """The next attempt is made as soon as the last one is given up."""
    return _replaced(retrying, "lease_is_over_after_s", lambda _: lambda _lease_s: 0.0)


def _no_watchdog() -> AbstractContextManager[None]:
    """A child computes on however long its worker has not read the log."""

    @contextmanager
    def never_expires() -> Iterator[None]:
        original = Lease.expires_at
        Lease.expires_at = property(lambda _: float("inf"))  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            Lease.expires_at = original  # type: ignore[method-assign]

    return never_expires()


def _no_sweep() -> AbstractContextManager[None]:
    """Nothing is swept away."""
    return _replaced(surveying, "sweep", lambda _: lambda *_arguments: iter(()))


def _no_pop_healing() -> AbstractContextManager[None]:
    """A task that was popped by somebody who died is not queued again."""

    def make(original: Callable[..., Action | None]) -> Callable[..., Action | None]:
        def while_queued(state: RunState, known: Known, *more: Any) -> Action | None:
            return original(state, replace(known, absent_since=None), *more)

        return while_queued

    return _replaced(next_step, "_while_queued", make)


def _shown_before_won() -> AbstractContextManager[None]:
    """A worker shows its model and closes its task without looking whether the log took its outcome."""
    return _replaced(protocol, "outcome_won", lambda _: lambda *_arguments: True)


MUTATIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "last-dispatched-wins": _last_dispatched_wins,
    "last-started-wins": _last_started_wins,
    "no-status-reread": _no_status_reread,
    "no-healing": _no_healing,
    "any-claim-trains": _any_claim_trains,
    "conflicts-ignored": _conflicts_ignored,
    "any-task-starts": _any_task_starts,
    "no-waiting-after-lost": _no_waiting_after_lost,
    "no-watchdog": _no_watchdog,
    "no-sweep": _no_sweep,
    "no-pop-healing": _no_pop_healing,
    "shown-before-won": _shown_before_won,
}
"""Each is a context manager that patches the production code while it is open."""
