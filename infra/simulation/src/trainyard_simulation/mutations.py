"""Holes to tear into the protocol on purpose: a simulation that does not notice them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from trainyard_dispatcher import executor, plan
from trainyard_dispatcher.plan import Action, Known
from trainyard_schemas import lifecycle
from trainyard_schemas.events import AttemptDispatched, AttemptStarted, Event
from trainyard_schemas.lifecycle import RunState, Verdict
from trainyard_schemas.vocabulary import EventType, RunPhase
from trainyard_trainer_worker import protocol


@contextmanager
def _replaced(module: ModuleType, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, make(original))
    try:
        yield
    finally:
        setattr(module, name, original)


Rule = Callable[[RunState, Event], RunState | Verdict]


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
        def rule(state: RunState, event: Event) -> RunState | Verdict:
            fact = event.fact
            assert isinstance(fact, AttemptDispatched)
            if state.phase is RunPhase.DISPATCHED and fact.attempt == state.attempt and fact.task_id != state.task_id:
                return replace(state, task_id=fact.task_id, queued_at=None)
            return original(state, event)

        return rule

    return _rule_replaced(EventType.ATTEMPT_DISPATCHED, make)


def _last_started_wins() -> AbstractContextManager[None]:
    """The fold takes every `started` of the attempt's task, not only the first."""

    def make(original: Rule) -> Rule:
        def rule(state: RunState, event: Event) -> RunState | Verdict:
            fact = event.fact
            assert isinstance(fact, AttemptStarted)
            if state.phase is RunPhase.STARTED and fact.task_id == state.task_id and fact.claim != state.claim:
                return replace(state, claim=fact.claim, worker=fact.worker)
            return original(state, event)

        return rule

    return _rule_replaced(EventType.ATTEMPT_STARTED, make)


def _no_status_reread() -> AbstractContextManager[None]:
    """After an enqueue with an unknown outcome the task is enqueued again, whatever its status is by then."""

    def make(original: Callable[[Action, Known], Known]) -> Callable[[Action, Known], Known]:
        def forget(action: Action, known: Known) -> Known:
            return known if isinstance(action, plan.Enqueue) else original(action, known)

        return forget

    return _replaced(executor, "_forget", make)


def _no_healing() -> AbstractContextManager[None]:
    """A planner brings only those tasks into their queue that it created itself."""

    def make(
        original: Callable[[RunState, Known], Action | None],
    ) -> Callable[[RunState, Known], Action | None]:
        def toward_queue(state: RunState, known: Known) -> Action | None:
            return original(state, known) if known.task_id == state.task_id else None

        return toward_queue

    return _replaced(plan, "_toward_queue", make)


def _any_claim_trains() -> AbstractContextManager[None]:
    """A worker trains once its `started` is acknowledged, without looking whether it won."""
    return _replaced(protocol, "claim_won", lambda _: lambda *_arguments: True)


def _conflicts_ignored() -> AbstractContextManager[None]:
    """A planner does not answer the request that lost its key to another one."""
    return _replaced(plan, "reject_conflicts", lambda _: lambda *_arguments: [])


MUTATIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "last-dispatched-wins": _last_dispatched_wins,
    "last-started-wins": _last_started_wins,
    "no-status-reread": _no_status_reread,
    "no-healing": _no_healing,
    "any-claim-trains": _any_claim_trains,
    "conflicts-ignored": _conflicts_ignored,
}
"""Each is a context manager that patches the production code while it is open."""
