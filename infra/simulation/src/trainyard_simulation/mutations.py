"""Holes to tear into the protocol on purpose: a simulation that does not notice them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from trainyard_dispatcher import executor, plan
from trainyard_dispatcher.plan import Action, Known
from trainyard_schemas import lifecycle
from trainyard_schemas.events import AttemptDispatched, Event
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


@contextmanager
def _last_dispatched_wins() -> Iterator[None]:
    """The fold takes every `dispatched` of an attempt that nobody has claimed, not only the first."""
    rules: Any = lifecycle._RULES
    original = rules[EventType.ATTEMPT_DISPATCHED]

    def rule(state: RunState, event: Event) -> RunState | Verdict:
        fact = event.fact
        assert isinstance(fact, AttemptDispatched)
        if state.phase is RunPhase.DISPATCHED and fact.attempt == state.attempt and fact.task_id != state.task_id:
            return replace(state, task_id=fact.task_id, queued_at=None)
        outcome: RunState | Verdict = original(state, event)
        return outcome

    rules[EventType.ATTEMPT_DISPATCHED] = rule
    try:
        yield
    finally:
        rules[EventType.ATTEMPT_DISPATCHED] = original


@contextmanager
def _no_status_reread() -> Iterator[None]:
    """After an enqueue with an unknown outcome the task is enqueued again, whatever its status is by then."""

    def make(original: Callable[[Action, Known], Known]) -> Callable[[Action, Known], Known]:
        def forget(action: Action, known: Known) -> Known:
            return known if isinstance(action, plan.Enqueue) else original(action, known)

        return forget

    with _replaced(executor, "_forget", make):
        yield


@contextmanager
def _no_healing() -> Iterator[None]:
    """A planner brings only those tasks into their queue that it created itself."""

    def make(
        original: Callable[[RunState, Known], Action | None],
    ) -> Callable[[RunState, Known], Action | None]:
        def toward_queue(state: RunState, known: Known) -> Action | None:
            return original(state, known) if known.task_id == state.task_id else None

        return toward_queue

    with _replaced(plan, "_toward_queue", make):
        yield


@contextmanager
def _any_claim_trains() -> Iterator[None]:
    """A worker trains once its `started` is acknowledged, without looking whether it won."""
    with _replaced(protocol, "claim_won", lambda _: lambda *_arguments: True):
        yield


MUTATIONS: dict[str, Callable[[], Any]] = {
    "last-dispatched-wins": _last_dispatched_wins,
    "no-status-reread": _no_status_reread,
    "no-healing": _no_healing,
    "any-claim-trains": _any_claim_trains,
}
"""Each is a context manager that patches the production code while it is open."""
