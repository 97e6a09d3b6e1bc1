"""What the worker's protocol needs of the world: small ports, each with one adapter, each simple to simulate.

The protocol (protocol.py) awaits these and nothing else, so that a simulation can drive the same coroutine.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from trainyard_schemas.events import Event
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.spec import Outcome, Succeeded

T = TypeVar("T")


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
    """An attempt whose claim won. `accepted_at` and `deadline_at` are in seconds since the epoch, `lease_s` is how long
    may be trained without having read the log."""

    run_id: str
    attempt: int
    claim: str
    task: PoppedTask
    queue: str
    request: Mapping[str, Any]
    accepted_at: float
    claimed_at: float
    deadline_s: float
    lease_s: float

    @property
    def deadline_at(self) -> float:
        """When the attempt must be over."""
        return self.claimed_at + self.deadline_s


class TaskEnd(StrEnum):
    """How a ClearML task is closed."""

    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


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


class ClaimVoid(Exception):
    """The lease bears an order: stop publishing. What was uploaded stays in the attempt's own path, unseen."""


class Ending(Exception):
    """The process is asked to end: let go of everything."""


class Log(Protocol):
    """The book of record, `runs.lifecycle`."""

    async def append(self, event: Event) -> None:
        """Append to the run's partition and wait for the acknowledgement of all replicas.

        Raises AppendUnknown (the record may be there: append the same again) or LogUnavailable.
        """
        ...

    async def read_run(self, run_id: str, from_offset: int | None) -> RunRecords:
        """All records of `run_id` from `from_offset` to the end as it stood when the call began, or later.

        None: from the first record that the log still holds. Records that are no events of ours are passed over.
        Raises LogUnavailable.
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

    async def close(self, task_id: str, end: TaskEnd, *, reason: str, message: str) -> None:
        """Set the status `end`, through `in_progress` where need be; nothing if it is so already."""
        ...


class Requests(Protocol):
    """The topic of requests, where a user's clone becomes a run of its own."""

    async def ask(self, source: str, event_id: str, request: Mapping[str, Any]) -> None:
        """Publish a request as a CloudEvent; asking again with the same source and id is the same run.

        Raises LogUnavailable.
        """
        ...


class Training(Protocol):
    """Runs the child of an attempt and reports on it."""

    async def run(self, job: Job, lease: Lease) -> Outcome:
        """Train. Returns after the child, with all that it started, is reaped; never later than the deadline + grace.

        The child computes only while `lease` is valid: a watchdog that depends on nothing in this process freezes it
        when the lease expires, and it is thawed when the lease is renewed. `Stopped` where the process is asked to end,
        and where the lease bears an order. Trouble with ClearML or heartbeats is no concern of the outcome.
        """
        ...


class Publisher(Protocol):
    """Stores and registers what an attempt made."""

    async def publish(self, job: Job, outcome: Succeeded, lease: Lease) -> Mapping[str, Any]:
        """Upload model and artifacts under the attempt's own path, register; returns the results of the attempt.

        Nobody sees the registered model yet: `reveal` shows it. Nothing is done while `lease` is not valid. Repeats
        what fails with ClearML until the deadline. Raises PublishFailed, Ending, or ClaimVoid once the lease bears an
        order.
        """
        ...

    async def reveal(self, results: Mapping[str, Any]) -> None:
        """Show the model that `results` name, whose attempt has won. Harmless twice.

        Raises TasksUnavailable or TasksRefused.
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

    def steady(self) -> float:
        """Seconds on a clock that only runs forward, also while the host is suspended."""
        ...

    async def news(self, run_id: str, at_most_s: float) -> None:
        """Wait until the log may hold something new of the run, `at_most_s` seconds. Raises Ending."""
        ...

    async def wait(self, tries: int) -> None:
        """Pause after the `tries`-th failure in a row, longer each time up to a cap. Raises Ending."""
        ...


class Beside(Protocol):
    """Concurrency, which the protocol itself has none of."""

    async def __call__(self, background: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T:
        """Await `work` while `background` runs; then end `background`, and return or raise what `work` did."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All of them. `new_claim` answers another random id at every call."""

    log: Log
    requests: Requests
    tasks: Tasks
    training: Training
    publisher: Publisher
    outbox: Outbox
    patience: Patience
    beside: Beside
    new_claim: Callable[[], str]
