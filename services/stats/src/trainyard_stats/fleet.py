"""Queues and workers as ClearML shows them, and why runs wait, from the log's fold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase


class Why(StrEnum):
    """Why a run waits."""

    BACKLOG = "backlog"  # accepted, and the planner keeps it back: its queue is full enough, or a limit is reached
    RETRY = "retry"  # an attempt has ended, and the next one is not dispatched yet
    NO_WORKER = "no_worker"  # in a queue that no worker serves
    WORKERS_BUSY = "workers_busy"  # in a queue whose workers all have a task
    STARTING = "starting"  # in a queue with a free worker
    QUEUED = "queued"  # in a queue, and ClearML cannot be asked about its workers


@dataclass(frozen=True, slots=True)
class QueueLook:
    """One ClearML queue: how many tasks wait, and since when the first one does, in seconds since the epoch."""

    entries: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """ClearML's queues by name, and per queue how many workers serve it and how many of those have a task."""

    queues: Mapping[str, QueueLook] = field(default_factory=dict)
    workers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    online: int = 0
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many runs wait, and since when the one that waits longest does, in seconds since the epoch."""

    runs: int
    oldest_at: float


def queue_look(added: Iterable[str]) -> QueueLook:
    """A queue from the times at which its entries were added, as ClearML writes them."""
    times = [seconds_of(text) for text in added]
    return QueueLook(len(times), min((at for at in times if at is not None), default=None))


def fleet_of(queues: Mapping[str, QueueLook], workers: Iterable[Mapping[str, Any]]) -> Fleet:
    """The fleet from what `workers.get_all` answers: ClearML leaves out workers that it has not heard of for long."""
    serving: dict[str, tuple[int, int]] = dict.fromkeys(queues, (0, 0))
    online = busy = 0
    for worker in workers:
        has_task = bool(worker.get("task"))
        online += 1
        busy += has_task
        for queue in worker.get("queues") or ():
            name = str(queue.get("name") or "") if isinstance(queue, Mapping) else ""
            if name:
                all_of_it, with_task = serving.get(name, (0, 0))
                serving[name] = (all_of_it + 1, with_task + has_task)
    return Fleet(queues, serving, online, busy)


def waiting(states: Iterable[RunState], fleet: Fleet | None) -> dict[tuple[str, Why], Waiting]:
    """The runs that wait, by queue (empty where none is chosen yet) and by why."""
    found: dict[tuple[str, Why], Waiting] = {}
    for state in states:
        if (place := _place(state, fleet)) is None:
            continue
        queue, why, since = place
        before = found.get((queue, why))
        found[queue, why] = (
            Waiting(1, since) if before is None else Waiting(before.runs + 1, min(before.oldest_at, since))
        )
    return found


def _place(state: RunState, fleet: Fleet | None) -> tuple[str, Why, float] | None:
    if state.phase is RunPhase.ACCEPTED:
        return "", Why.BACKLOG, state.accepted_at
    if state.phase in (RunPhase.ATTEMPT_FAILED, RunPhase.ATTEMPT_LOST):
        return "", Why.RETRY, state.attempt_ended_at or state.accepted_at
    if state.phase is not RunPhase.DISPATCHED:
        return None
    queue = state.queue or ""
    since = state.queued_at or state.dispatched_at or state.accepted_at
    if fleet is None:
        return queue, Why.QUEUED, since
    workers, with_task = fleet.workers.get(queue, (0, 0))
    why = Why.NO_WORKER if not workers else Why.WORKERS_BUSY if workers == with_task else Why.STARTING
    return queue, why, since


def seconds_of(text: str) -> float | None:
    """A time as ClearML writes it in seconds since the epoch; None for what is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
