"""What a popped task says of itself: one of our attempts, or somebody else's task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainyard_trainer_worker.ports import PoppedTask
from trainyard_trainer_worker.spec import clean

SECTION = "Run"


@dataclass(frozen=True, slots=True)
class Marker:
    """The attempt that a task bears: where its run's records begin in `runs.lifecycle`."""

    run_id: str
    attempt: int
    accepted_offset: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """A task that no run of ours dispatched. `message` says so to the person who enqueued it."""

    message: str


def read_marker(task: PoppedTask, topic_prefix: str) -> Marker | Foreign:
    """Read the task's `Run/*` parameters.

    A marked task with a parent is a user's clone; a later version publishes a request for it, this one refuses it.
    """
    run = task.parameters.get(SECTION, {})
    run_id = run.get("run_id")
    if not run_id:
        return Foreign(
            "This queue is served by Trainyard trainer workers, which train run requests only; this task has no "
            "Run/run_id. Enqueue it on a queue that a clearml-agent serves."
        )
    if task.parent:
        return Foreign(
            f"This task is a clone of the task {task.parent} of a Trainyard run, and clones are not run. "
            "Publish a new run request instead."
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
    return Marker(run_id, attempt, offset)


def _whole_number(run: Mapping[str, str], name: str) -> int | None:
    text = run.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
