"""What the worker's protocol needs of the world: small ports, each with one adapter, each simple to simulate.

The protocol (protocol.py) awaits these and nothing else, so that a simulation can drive the same coroutine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainyard_schemas.events import Event
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Outcome, Succeeded


@dataclass(frozen=True, slots=True)
class PoppedTask:
    """A ClearML task as read after its pop. `parameters` is `{section: {name: value}}`."""

    id: str
    name: str
    status: str
    parent: str | None
    project_id: str | None
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRecords:
    """The records of one run found in one read, in offset order, and the offset after the last record read."""

    events: tuple[tuple[int, Event], ...]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt whose claim won. `accepted_at` and `deadline_at` are in seconds since the epoch."""

    run_id: str
    attempt: int
    claim: str
    task: PoppedTask
    queue: str
    request: Mapping[str, Any]
    accepted_at: float
    claimed_at: float
    deadline_s: float

    @property
    def deadline_at(self) -> float:
        """When the attempt must be over."""
        return self.claimed_at + self.deadline_s


class TasksUnavailable(Exception):
    """ClearML did not answer: whether the call was executed is not known. Every call of `Tasks` may be repeated."""


class TasksRefused(Exception):
    """ClearML understood the call and said no."""


class PublishFailed(Exception):
    """The model could not be stored or registered before the attempt's deadline."""

    def __init__(self, reason: Reason, detail: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail
        self.message = message


class Ending(Exception):
    """The process is asked to end: let go of everything."""


class Log(Protocol):
    """The book of record, `runs.lifecycle`."""

    async def append(self, event: Event) -> None:
        """Append to the run's partition and wait for the acknowledgement of all replicas.

        Raises AppendUnknown (the record may be there: append the same again) or LogUnavailable.
        """
        ...

    async def read_run(self, run_id: str, from_offset: int) -> RunRecords:
        """All records of `run_id` from `from_offset` to the end as it stood when the call began, or later.

        Records that are no events of ours are passed over. Raises LogUnavailable.
        """
        ...


class Tasks(Protocol):
    """ClearML's tasks. Every method raises TasksUnavailable or TasksRefused, and may be repeated."""

    async def read(self, task_id: str) -> PoppedTask | None:
        """The task, or None if there is none."""
        ...

    async def started(self, task_id: str) -> None:
        """Set `in_progress`. ClearML says yes to everybody: this is no claim."""
        ...

    async def close(self, task_id: str, *, succeeded: bool, reason: str, message: str) -> None:
        """Set `completed` or `failed`, through `in_progress` where need be; nothing if it is so already."""
        ...


class Training(Protocol):
    """Runs the child of an attempt and reports on it."""

    async def run(self, job: Job) -> Outcome:
        """Train. Returns after the child, with all that it started, is reaped; never later than the deadline + grace.

        `Stopped` where the process is asked to end. Trouble with ClearML or heartbeats is no concern of the outcome.
        """
        ...


class Publisher(Protocol):
    """Stores and registers what an attempt made."""

    async def publish(self, job: Job, outcome: Succeeded) -> Mapping[str, Any]:
        """Upload model and artifacts under the attempt's own path, register; returns the results of the attempt.

        Repeats what fails with ClearML until the deadline. Raises PublishFailed or Ending.
        """
        ...


class Outbox(Protocol):
    """Delivers outcomes, also across a restart. `attempt.started` never goes through it."""

    async def deliver(self, event: Event) -> None:
        """Store the event durably here, then append it until acknowledged. Raises Ending after the first half."""
        ...


class Patience(Protocol):
    """Time, as the protocol sees it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def wait(self, tries: int) -> None:
        """Pause after the `tries`-th failure in a row, longer each time up to a cap. Raises Ending."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All of them. `new_claim` answers another random id at every call."""

    log: Log
    tasks: Tasks
    training: Training
    publisher: Publisher
    outbox: Outbox
    patience: Patience
    new_claim: Callable[[], str]
