"""What a planner may do: one frozen value per kind of action. `plan` chooses them, `Executor` performs them."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard_dispatcher.ports import TaskStatus
from trainyard_schemas import events as ev


@dataclass(frozen=True, slots=True)
class Search:
    """Look for tasks of these runs before creating any."""

    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Create:
    """Create the ClearML task of an attempt."""

    run_id: str
    attempt: int
    queue: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take a user's clone as the task of the first attempt, if it is one."""

    run_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Append:
    """Append a fact to the log; `at_offset` is the state's offset that it follows from."""

    run_id: str
    fact: ev.Fact
    at_offset: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Append `attempt.dispatched` for a task that exists."""

    run_id: str
    attempt: int
    task_id: str
    queue: str
    lease_s: float
    at_offset: int


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Put the winning task into its queue, once, by the queue's id."""

    run_id: str
    task_id: str
    queue_id: str


@dataclass(frozen=True, slots=True)
class ReadStatus:
    """Ask ClearML for the status of a task."""

    run_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Make an unclaimed task `created` again that somebody has run outside of the log; it is tagged before."""

    run_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Make a task `in_progress` again that a late reset of our own hit after its attempt had started."""

    run_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Close:
    """End a task whose attempt is over: it leaves its queue, and gets `status`."""

    run_id: str
    task_id: str
    was: TaskStatus
    status: TaskStatus
    message: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a task that no attempt ever used."""

    run_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Reveal:
    """Show the model of an attempt that won, whose worker did not live to show it."""

    run_id: str
    model_id: str


@dataclass(frozen=True, slots=True)
class DeleteModel:
    """Delete the model of an attempt that did not win, which nobody ever saw."""

    run_id: str
    model_id: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """Put a user's clone back into the queue that it was popped from by somebody who died."""

    run_id: str
    task_id: str
    queue_id: str


@dataclass(frozen=True, slots=True)
class RejectConflict:
    """Answer a request that came under a key which another request holds; `run_id` is derived from its own origin."""

    run_id: str
    fact: ev.RunRejected


Action = (
    Search
    | Create
    | Adopt
    | Append
    | Dispatch
    | Enqueue
    | ReadStatus
    | Reset
    | Restart
    | Close
    | Delete
    | Reveal
    | DeleteModel
    | Requeue
    | RejectConflict
)


def runs_of(action: Action) -> tuple[str, ...]:
    """The runs that an action is about: no other action touches them while it is under way."""
    return action.run_ids if isinstance(action, Search) else (action.run_id,)
