"""What a popped task says of itself: one of our attempts, or somebody else's task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainyard_trainer_worker.ports import PoppedTask
from trainyard_trainer_worker.spec import clean

SECTION = "Run"
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Marker:
    """The attempt that a task bears: where its run's records begin in `runs.lifecycle`."""

    run_id: str
    attempt: int
    accepted_offset: int


@dataclass(frozen=True, slots=True)
class Clone:
    """A user's clone of one of our tasks. `run_id` and `accepted_offset` are the original's, `tenant` its tenant."""

    run_id: str
    accepted_offset: int
    tenant: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A task that no run of ours dispatched. `message` says so to the person who enqueued it."""

    message: str


def read_marker(task: PoppedTask, topic_prefix: str) -> Marker | Clone | Foreign:
    """Read the task's `Run/*` parameters. A marked task with a parent is a user's clone."""
    run = task.parameters.get(SECTION, {})
    run_id = run.get("run_id")
    if not run_id:
        return Foreign(
            "This queue is served by Trainyard trainer workers, which train run requests only; this task has no "
            "Run/run_id. Enqueue it on a queue that a clearml-agent serves."
        )
    prefix = run.get("topic_prefix", topic_prefix)
    if prefix != topic_prefix:
        return Foreign(
            f"This task belongs to the Trainyard installation with the topic prefix {clean(prefix)}, but this worker "
            f"reads {clean(topic_prefix)}. Give the two installations queues of their own."
        )
    attempt, offset = _whole_number(run, "attempt"), _whole_number(run, "accepted_offset")
    if attempt is None or attempt < 1 or offset is None:
        return Foreign(
            f"Run/attempt is {clean(run.get('attempt'))} and Run/accepted_offset is "
            f"{clean(run.get('accepted_offset'))}; both must be whole numbers as the dispatcher wrote them."
        )
    if task.parent:
        return Clone(run_id, offset, run.get("tenant", DEFAULT_TENANT))
    return Marker(run_id, attempt, offset)


def _whole_number(run: Mapping[str, str], name: str) -> int | None:
    text = run.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
