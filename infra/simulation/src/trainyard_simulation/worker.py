"""A trainer worker under simulation: the production protocol over simulated ports.

The process may die or be paused anywhere, alone or with its whole host, and be cut off from everything. Its training
is a `Child` (see `training`), which a watchdog of its own freezes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trainyard_dispatcher.ports import Refused, TaskStatus, UnseenModel
from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable
from trainyard_schemas.events import Event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_simulation.broker import Broker
from trainyard_simulation.clearml import ClearML, SimTask
from trainyard_simulation.effects import Call, Effect, Signal, Sleep
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process
from trainyard_simulation.training import Execution, SimTraining
from trainyard_trainer_worker import protocol
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.ports import (
    ClaimVoid,
    Job,
    PoppedTask,
    Ports,
    RunRecords,
    TaskEnd,
    TasksRefused,
    TasksUnavailable,
)
from trainyard_trainer_worker.spec import Succeeded

T = TypeVar("T")

IDLE_POLL_S = 120.0
"""The real worker polls every 5 s; here it is woken by new entries, so this is only the fallback."""

_ENDS = {
    TaskEnd.COMPLETED: TaskStatus.COMPLETED,
    TaskEnd.FAILED: TaskStatus.FAILED,
    TaskEnd.STOPPED: TaskStatus.STOPPED,
}


@dataclass(slots=True)
class Workshop:
    """What all workers share: the world around them, the disks of their outboxes, and the ledger of trainings."""

    kernel: Kernel
    broker: Broker
    clearml: ClearML
    queue_ids: Sequence[str]
    topic_prefix: str
    executions: list[Execution] = field(default_factory=list)
    outboxes: dict[str, dict[str, Event]] = field(default_factory=lambda: defaultdict(dict))


async def work(shop: Workshop, process: Process) -> None:
    """One incarnation: settle what the last one left in the outbox, then pop and handle tasks for ever."""
    kernel = shop.kernel
    signal = shop.clearml.queue_signals[process.name] = Signal(kernel)
    ports = _ports(shop, process)
    worker = protocol.Worker(process.name, process.writer, shop.topic_prefix)
    for event in list(shop.outboxes[process.name].values()):
        kernel.coverage["outbox replayed after a restart"] += 1
        await ports.outbox.deliver(event)
        await protocol.settle(event, ports)
    while True:
        popped = await _pop(shop, process)
        if popped is None:
            await signal.wait(IDLE_POLL_S)
            continue
        handled = await protocol.handle(popped, shop.queue_ids[0], worker, ports)
        kernel.coverage[f"worker: {handled.value}"] += 1
        kernel.note(process.writer, f"{popped}: {handled.value}")


async def _pop(shop: Workshop, process: Process) -> str | None:
    """Pop one entry. A pop whose answer is lost gives nobody the task."""

    def apply() -> str | None:
        return shop.clearml.pop(shop.queue_ids, process.writer)

    try:
        popped: str | None = await Call(
            "pop", apply, unknown=lambda: TasksUnavailable("pop"), unavailable=lambda: TasksUnavailable("pop")
        )
    except TasksUnavailable:
        return None
    return popped


def _ports(shop: Workshop, process: Process) -> Ports:
    log = _Log(shop.broker)
    patience = _Patience(shop, process)
    rng = shop.kernel.rng
    return Ports(
        log=log,
        requests=_Requests(shop.broker),
        tasks=_Tasks(shop.clearml),
        training=SimTraining(shop.kernel, shop.broker, process, shop.executions),
        publisher=_Publisher(shop.kernel, shop.clearml),
        outbox=_Outbox(log, shop.outboxes[process.name], patience),
        patience=patience,
        beside=_Beside(shop, process),
        new_claim=lambda: f"{rng.getrandbits(64):016x}",
    )


class _Log:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def append(self, event: Event) -> None:
        await self._broker.append_event(event)

    async def read_run(self, run_id: str, from_offset: int | None) -> RunRecords:
        start = from_offset or 0
        records = await self._broker.read_run(self._broker.partition(run_id), start)
        mine = tuple((r.offset, r.event) for r in records if r.event.fact.run_id == run_id)
        return RunRecords(mine, start + len(records))


class _Requests:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def ask(self, source: str, event_id: str, request: Mapping[str, Any]) -> None:
        document = {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": "trainyard.run.requested",
            "data": dict(request),
        }
        await self._broker.append_request(partition_of(event_id, RUN_PARTITIONS), json.dumps(document).encode())


class _Tasks:
    def __init__(self, server: ClearML) -> None:
        self._server = server

    async def read(self, task_id: str) -> PoppedTask | None:
        def apply() -> PoppedTask | None:
            task = self._server.tasks.get(task_id)
            return None if task is None else _popped(task)

        found: PoppedTask | None = await _call("worker reads task", apply)
        return found

    async def started(self, task_id: str) -> None:
        await _call("tasks.started", lambda: self._server.started(task_id))

    async def close(self, task_id: str, end: TaskEnd, *, reason: str, message: str) -> None:
        status = _ENDS[end]

        def apply() -> None:
            task = self._server.tasks.get(task_id)
            if task is not None and task.status is TaskStatus.QUEUED:
                self._server.started(task_id)
            if task is None or task.status is not status:
                self._server.end(task_id, status)

        await _call("worker closes task", apply)


def _call(label: str, apply: Callable[[], Any]) -> Call:
    def translated() -> Any:
        try:
            return apply()
        except Refused as refusal:
            raise TasksRefused(refusal.message) from refusal

    return Call(
        label,
        translated,
        unknown=lambda: TasksUnavailable(label),
        unavailable=lambda: TasksUnavailable(label),
        refusals=(TasksRefused,),
    )


def _popped(task: SimTask) -> PoppedTask:
    sections: Mapping[str, Mapping[str, Mapping[str, str]]] = task.body["hyperparams"]
    parameters = {
        section: {name: item["value"] for name, item in values.items()} for section, values in sections.items()
    }
    return PoppedTask(task.task_id, str(task.body["name"]), task.status.value, task.parent, "project", parameters)


class _Publisher:
    """Registers a model that nobody sees, after some time; `reveal` shows it."""

    def __init__(self, kernel: Kernel, server: ClearML) -> None:
        self._kernel = kernel
        self._server = server

    async def publish(self, job: Job, outcome: Succeeded, lease: Lease) -> Mapping[str, Any]:
        await Sleep(self._kernel.rng.random() ** 3 * 5.0)
        while not lease.is_valid(self._kernel.now):
            if lease.order is not None:
                break
            await Sleep(1.0)
        if lease.order is not None:
            self._kernel.coverage["publishing ended by an order"] += 1
            raise ClaimVoid
        model = UnseenModel(f"m-{job.claim}", job.run_id, job.attempt, job.claim)
        while True:
            try:
                await _call("models.create", lambda: self._server.register_model(model))
            except TasksUnavailable:
                await Sleep(0.5)
            else:
                return {**outcome.results, "model": {"id": model.model_id}}

    async def reveal(self, results: Mapping[str, Any]) -> None:
        await _call("worker reveals model", lambda: self._server.reveal_model(results["model"]["id"]))


class _Outbox:
    """Durable: what is in it survives the process, and is delivered by the next one."""

    def __init__(self, log: _Log, disk: dict[str, Event], patience: _Patience) -> None:
        self._log = log
        self._disk = disk
        self._patience = patience

    async def deliver(self, event: Event) -> None:
        self._disk[event.id] = event
        tries = 0
        while True:
            try:
                await self._log.append(event)
            except (AppendUnknown, LogUnavailable):
                tries += 1
                await self._patience.wait(tries)
            else:
                del self._disk[event.id]
                return


class _Patience:
    def __init__(self, shop: Workshop, process: Process) -> None:
        self._shop = shop
        self._process = process

    def now(self) -> float:
        return self._shop.kernel.now

    def steady(self) -> float:
        return self._shop.kernel.now

    async def wait(self, tries: int) -> None:
        await Sleep(min(5.0, 0.2 * 2.0**tries))

    async def news(self, run_id: str, at_most_s: float) -> None:
        signal = Signal(self._shop.kernel)
        self._shop.broker.news[run_id][self._process.name] = signal
        await signal.wait(at_most_s)


class _Beside:
    """Runs the keeping of a claim beside the work, as a task of the same process."""

    def __init__(self, shop: Workshop, process: Process) -> None:
        self._shop = shop
        self._process = process

    async def __call__(self, background: Coroutine[Effect, Any, None], work: Coroutine[Effect, Any, T]) -> T:
        task = self._shop.kernel.spawn(self._process, background, "keep")
        try:
            return await work
        finally:
            task.close()
