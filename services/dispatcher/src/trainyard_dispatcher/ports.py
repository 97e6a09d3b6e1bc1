"""What the planner's executor needs of the world, as small ports with guarantees.

Every effect ends in one of three ways, told apart by the adapter: it happened (a value), it certainly did not
(`Refused`, `NotDone`), or nobody knows (`OutcomeUnknown`). Nothing here retries by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from trainyard_schemas.events import Fact, OriginRecord


class TaskStatus(StrEnum):
    """A ClearML task's status, as far as the planner tells them apart. `MISSING`: there is no such task."""

    CREATED = "created"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"
    PUBLISHED = "published"
    OTHER = "other"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A ClearML task that bears our marker (`Run/run_id`, `Run/attempt`) and is no clone (has no parent)."""

    task_id: str
    run_id: str
    attempt: int
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class SeenTask:
    """A marked task as a survey saw it. A user's clone has a `parent`, and `run_id` is the run that it is or would be.

    `sign_of_life` is ClearML's own last update of it, an opaque text; `queue_id` the queue that it was last put into.
    """

    task_id: str
    run_id: str
    attempt: int
    status: TaskStatus
    parent: str | None = None
    queue_id: str | None = None
    sign_of_life: str = ""
    was_reset_by_us: bool = False


@dataclass(frozen=True, slots=True)
class UnseenModel:
    """A registered model that nobody sees yet, and the claim under which it was made."""

    model_id: str
    run_id: str
    attempt: int
    claim: str


@dataclass(frozen=True, slots=True)
class Survey:
    """ClearML as it stood at some moment after the survey was sent.

    `asked` maps the ids that were asked for to their tasks; one that is not there does not exist. `open_tasks` are all
    marked tasks that are created, queued or in progress. `entries` are the tasks that stand in any queue, read after
    the tasks. `unseen_models` are those of ours whose attempt was not known to have won when they were registered.
    """

    asked: Mapping[str, SeenTask]
    open_tasks: Sequence[SeenTask]
    entries: frozenset[str]
    unseen_models: Sequence[UnseenModel] = ()


class Refused(Exception):
    """The server understood and said no; nothing changed. `detail` is a code, the message a sentence."""

    def __init__(self, detail: str, message: str) -> None:
        super().__init__(message)
        self.detail = detail
        self.message = message


class NotDone(Exception):
    """It certainly did not happen (not reached, not sent); it may be tried again."""


class OutcomeUnknown(Exception):
    """It was sent and the answer is lost: it may have happened, or may still happen."""


class Tasks(Protocol):
    """ClearML's tasks and queues. All methods may raise Refused, NotDone; effects also OutcomeUnknown."""

    async def queue_id(self, name: str) -> str:
        """The id of a queue by its exact name. Raises Refused(`unknown_queue`) where there is none."""

    async def create(self, project: str, body: Mapping[str, Any]) -> str:
        """Create a task in one call and return its id. Never retried here."""

    async def enqueue(self, task_id: str, queue_id: str) -> None:
        """Put a task into a queue. A task that stands there already counts as done."""

    async def status(self, task_id: str) -> TaskStatus:
        """The task's status now; the read follows all effects that were answered before."""

    async def find(self, run_ids: Sequence[str]) -> Sequence[FoundTask]:
        """All marked tasks of these runs that have no parent, archived ones too."""

    async def close(self, task_id: str, was: TaskStatus, status: TaskStatus, message: str) -> None:
        """Take a task out of its queue and set `completed`, `failed` or `stopped`. Harmless twice."""

    async def reveal_model(self, model_id: str) -> None:
        """Show a registered model that nobody saw so far. Harmless twice, and where there is none."""

    async def delete_model(self, model_id: str) -> None:
        """Delete a model that nobody ever saw. One that is gone counts as done."""

    async def reset(self, task_id: str) -> None:
        """Tag a task as reset by us, then make it `created` again."""

    async def restart(self, task_id: str) -> None:
        """Make a task `in_progress`."""

    async def delete(self, task_id: str) -> None:
        """Delete a task that is `created`. One that is gone counts as done."""

    async def adoptable(self, task_id: str) -> str | None:
        """None where the task is a user's clone of one of ours; else why it is not."""

    async def survey(self, task_ids: Sequence[str]) -> Survey:
        """Look at these tasks, at all open ones that bear our marker, and at what stands in the queues."""


class Ledger(Protocol):
    """The book of record."""

    async def append(self, fact: Fact) -> None:
        """Append a fact under its natural id to its run's partition; returns when it is durable.

        Raises NotDone or OutcomeUnknown; the same fact may be appended again in both cases.
        """


class DeadLetters(Protocol):
    """The keepers of what was refused."""

    async def put(self, origin: OriginRecord, run_id: str, reason: str, detail: str, message: str) -> None:
        """Keep the record at `origin`, byte for byte, with why. Raises NotDone or OutcomeUnknown."""
