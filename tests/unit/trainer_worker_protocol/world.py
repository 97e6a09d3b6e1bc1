"""Fakes at the protocol's ports: a log in memory, ClearML's status table for one task, training without a child."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable
from trainyard_schemas.events import (
    AttemptDispatched,
    AttemptFailed,
    AttemptSucceeded,
    Event,
    Fact,
    OriginRecord,
    RunAccepted,
    make_event,
)
from trainyard_schemas.lifecycle import RunState, fold
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.outcome_facts import ordered
from trainyard_trainer_worker.ports import (
    ClaimVoid,
    Ending,
    Job,
    PoppedTask,
    Ports,
    PublishFailed,
    RunRecords,
    TaskEnd,
    TasksUnavailable,
)
from trainyard_trainer_worker.protocol import Handled, Worker, handle
from trainyard_trainer_worker.spec import ModelFile, Outcome, Succeeded

T = TypeVar("T")
RUN_ID = "11111111-2222-5333-8444-555555555555"
TASK_ID = "task-1"
PREFIX = "trainyard."
TRAINED = Succeeded({"metric": "accuracy", "value": 0.9, "trainer": "sklearn"}, ModelFile("model.tar.gz", "ab", 3))


@dataclass(slots=True)
class FakeLog:
    """Appends and reads in order; `before_*` run first and may raise, or append for somebody else."""

    records: list[Event] = field(default_factory=list)
    before_append: Callable[[Event], None] = lambda event: None
    after_append: Callable[[Event], None] = lambda event: None
    before_read: Callable[[], None] = lambda: None
    reads: list[int | None] = field(default_factory=list)

    def put(self, fact: Fact, writer: str = "dispatcher") -> None:
        self.records.append(make_event(fact, source="test", writer=writer, now=float(len(self.records))))

    async def append(self, event: Event) -> None:
        self.before_append(event)
        self.records.append(event)
        self.after_append(event)

    async def read_run(self, run_id: str, from_offset: int | None) -> RunRecords:
        self.before_read()
        self.reads.append(from_offset)
        start = from_offset or 0
        found = [(i, e) for i, e in enumerate(self.records) if i >= start and e.fact.run_id == run_id]
        return RunRecords(tuple(found), len(self.records))

    def state(self) -> RunState:
        state = fold(list(enumerate(self.records)))
        assert state is not None
        return state

    def facts(self, kind: type[Fact]) -> list[Any]:
        return [e.fact for e in self.records if isinstance(e.fact, kind)]


@dataclass(slots=True)
class FakeTasks:
    """One task. `failures` says how often the calls of a name (read, started, close) fail as unavailable."""

    task: PoppedTask | None
    failures: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def _call(self, name: str, shown: str = "") -> None:
        self.calls.append(shown or name)
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            raise TasksUnavailable(name)

    async def read(self, task_id: str) -> PoppedTask | None:
        self._call("read")
        return self.task

    async def started(self, task_id: str) -> None:
        self._call("started")

    async def close(self, task_id: str, end: TaskEnd, *, reason: str, message: str) -> None:
        self.messages.append(message)
        self._call("close", "completed" if end is TaskEnd.COMPLETED else f"{end.value}:{reason}")

    @property
    def told(self) -> list[str]:
        """What changed the task."""
        return [call for call in self.calls if call != "read"]


async def an_order(lease: Lease) -> None:
    """Wait until the lease bears an order."""
    given = asyncio.Event()
    lease.listen(lambda: given.set() if lease.order is not None else None)
    if lease.order is None:
        async with asyncio.timeout(10):
            await given.wait()


@dataclass(slots=True)
class FakeTraining:
    """Ends with `outcome`; where `until_ordered`, as the lease orders. `meanwhile` happens while it trains."""

    outcome: Outcome = TRAINED
    until_ordered: bool = False
    meanwhile: Callable[[], None] = lambda: None
    jobs: list[Job] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)

    async def run(self, job: Job, lease: Lease) -> Outcome:
        self.jobs.append(job)
        self.leases.append(lease)
        self.meanwhile()
        if self.until_ordered:
            await an_order(lease)
        return ordered(lease) if lease.order is not None else self.outcome


@dataclass(slots=True)
class FakePublisher:
    """`meanwhile` happens while it publishes, and then it waits for an order where `until_ordered`."""

    error: PublishFailed | Ending | None = None
    meanwhile: Callable[[], None] = lambda: None
    until_ordered: bool = False
    revealed: list[str] = field(default_factory=list)

    async def publish(self, job: Job, outcome: Succeeded, lease: Lease) -> Mapping[str, Any]:
        self.meanwhile()
        if self.until_ordered:
            await an_order(lease)
        if lease.order is not None:
            raise ClaimVoid
        if self.error is not None:
            raise self.error
        return {**outcome.results, "model": {"id": "m1"}}

    async def reveal(self, results: Mapping[str, Any]) -> None:
        self.revealed.append(results["model"]["id"])


@dataclass(slots=True)
class FakeRequests:
    asked: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    async def ask(self, source: str, event_id: str, request: Mapping[str, Any]) -> None:
        self.asked.append((source, event_id, request))


async def beside(background: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T:
    """Both on one loop; the work decides when it is over."""
    keeping = asyncio.ensure_future(background)
    try:
        return await work
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@dataclass(slots=True)
class FakeOutbox:
    log: FakeLog
    kept: list[Event] = field(default_factory=list)
    ending: bool = False

    async def deliver(self, event: Event) -> None:
        self.kept.append(event)
        if self.ending:
            raise Ending
        await self.log.append(event)


@dataclass(slots=True)
class FakePatience:
    """Never waits; raises Ending at the `ends_at`-th pause. The steady clock stands at `at`."""

    ends_at: int | None = None
    at: float = 500.0
    pauses: list[int] = field(default_factory=list)

    def now(self) -> float:
        return 1_000.0

    def steady(self) -> float:
        return self.at

    async def news(self, run_id: str, at_most_s: float) -> None:
        await asyncio.sleep(0)

    async def wait(self, tries: int) -> None:
        self.pauses.append(tries)
        if self.ends_at is not None and len(self.pauses) >= self.ends_at:
            raise Ending
        assert len(self.pauses) < 1_000, "the protocol waits for ever"


def marked(**changes: Any) -> PoppedTask:
    """The task of attempt 1 as the dispatcher makes it."""
    run = {"run_id": RUN_ID, "attempt": "1", "accepted_offset": "0", "topic_prefix": PREFIX}
    values: dict[str, Any] = {
        "id": TASK_ID,
        "name": "demo-run",
        "status": "queued",
        "parent": None,
        "project_id": "p1",
        "parameters": {"Run": run},
    }
    return PoppedTask(**(values | changes))


def accepted(**request: Any) -> RunAccepted:
    """The run's first record."""
    return RunAccepted(
        run_id=RUN_ID,
        tenant="default",
        request={"trainer": "sklearn", "time_budget_s": 10.0, **request},
        request_digest="d",
        original_schema_version=2,
        origin=OriginRecord(topic="t", partition=0, offset=0, timestamp_ms=0),
    )


def dispatched(attempt: int = 1, task_id: str = TASK_ID) -> AttemptDispatched:
    """An attempt's task is made."""
    return AttemptDispatched(run_id=RUN_ID, attempt=attempt, task_id=task_id, queue="cpu", queue_id="q1")


class World:
    """Everything that one pop meets."""

    def __init__(self, task: PoppedTask | None = None, *, gone: bool = False) -> None:
        self.log = FakeLog()
        self.tasks = FakeTasks(None if gone else task or marked())
        self.training = FakeTraining()
        self.publisher = FakePublisher()
        self.requests = FakeRequests()
        self.outbox = FakeOutbox(self.log)
        self.patience = FakePatience()
        self.worker = Worker("host:trainyard-1", "writer-1", PREFIX)
        claims = itertools.count(1)
        self.ports = Ports(
            log=self.log,
            requests=self.requests,
            tasks=self.tasks,
            training=self.training,
            publisher=self.publisher,
            outbox=self.outbox,
            patience=self.patience,
            beside=beside,
            new_claim=lambda: f"claim-{next(claims):04d}",
        )

    def dispatch(self, **request: Any) -> World:
        self.log.put(accepted(**request))
        self.log.put(dispatched())
        return self

    def pop(self) -> Handled:
        return drive(handle(TASK_ID, "cpu", self.worker, self.ports))


def drive(coroutine: Awaitable[T]) -> T:
    """The coroutine's answer."""

    async def run() -> T:
        return await coroutine

    return asyncio.run(run())


def lost_answers(times: int, log: FakeLog) -> Callable[[Event], None]:
    """Makes the answers of the next appends be lost, after the record was written."""
    left = itertools.count(times, -1)

    def hook(event: Event) -> None:
        if next(left) > 0:
            raise AppendUnknown("lost")

    return hook


def unavailable(times: int) -> Callable[..., None]:
    """Makes the next calls fail without an effect."""
    left = itertools.count(times, -1)

    def hook(*_: object) -> None:
        if next(left) > 0:
            raise LogUnavailable("away")

    return hook


__all__ = ["AttemptFailed", "AttemptSucceeded", "Reason", "World", "accepted", "dispatched", "marked"]
