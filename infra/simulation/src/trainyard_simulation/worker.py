"""A trainer worker under simulation: the production protocol over simulated ports, training replaced by time passing.

The process may be paused anywhere. It dies only where this version of the protocol recovers: between two tasks, and
after an outcome is in its durable outbox. (A worker that dies holding a claim needs `attempt.lost`, rule 5.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainyard_dispatcher.ports import Refused, TaskStatus
from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable
from trainyard_schemas.events import Event
from trainyard_schemas.vocabulary import Reason
from trainyard_simulation.broker import Broker
from trainyard_simulation.clearml import ClearML, SimTask
from trainyard_simulation.effects import Call, Signal, Sleep
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process
from trainyard_trainer_worker import protocol
from trainyard_trainer_worker.ports import Job, PoppedTask, Ports, RunRecords, TasksRefused, TasksUnavailable
from trainyard_trainer_worker.spec import Failed, ModelFile, Outcome, Stopped, Succeeded

IDLE_POLL_S = 120.0
"""The real worker polls every 5 s; here it is woken by new entries, so this is only the fallback."""

_MODEL = ModelFile("model.tar.gz", "0" * 64, 1)


@dataclass(frozen=True, slots=True)
class Execution:
    """One training that really began: the harness's own knowledge, which no log holds."""

    run_id: str
    attempt: int
    task_id: str
    claim: str
    by: str
    began_at: float


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
    """One incarnation: deliver what the last one left in the outbox, then pop and handle tasks for ever."""
    kernel = shop.kernel
    signal = shop.clearml.queue_signals[process.name] = Signal(kernel)
    ports = _ports(shop, process)
    worker = protocol.Worker(process.name, process.writer, shop.topic_prefix)
    for event in list(shop.outboxes[process.name].values()):
        kernel.coverage["outbox replayed after a restart"] += 1
        await ports.outbox.deliver(event)
        await protocol.close_task(event, ports)
    while True:
        popped = await _pop(shop, process)
        if popped is None:
            await signal.wait(IDLE_POLL_S)
            continue
        handled = await protocol.handle(popped, shop.queue_ids[0], worker, ports)
        process.shielded = False
        kernel.coverage[f"worker: {handled.value}"] += 1
        kernel.note(process.writer, f"{popped}: {handled.value}")


async def _pop(shop: Workshop, process: Process) -> str | None:
    """Pop one entry. From here to the outcome the process is shielded from death (see the module's docstring)."""

    def apply() -> str | None:
        return shop.clearml.pop(shop.queue_ids, process.writer)

    process.shielded = True
    popped: str | None = await Call("pop", apply)
    process.shielded = popped is not None
    return popped


def _ports(shop: Workshop, process: Process) -> Ports:
    log = _Log(shop.broker)
    patience = _Patience(shop.kernel)
    rng = shop.kernel.rng
    return Ports(
        log=log,
        tasks=_Tasks(shop.clearml),
        training=_Training(shop, process),
        publisher=_Publisher(),
        outbox=_Outbox(log, shop.outboxes[process.name], patience, process),
        patience=patience,
        new_claim=lambda: f"{rng.getrandbits(64):016x}",
    )


class _Log:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def append(self, event: Event) -> None:
        await self._broker.append_event(event)

    async def read_run(self, run_id: str, from_offset: int) -> RunRecords:
        records = await self._broker.read_run(self._broker.partition(run_id), from_offset)
        mine = tuple((r.offset, r.event) for r in records if r.event.fact.run_id == run_id)
        return RunRecords(mine, from_offset + len(records))


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

    async def close(self, task_id: str, *, succeeded: bool, reason: str, message: str) -> None:
        status = TaskStatus.COMPLETED if succeeded else TaskStatus.FAILED

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
    return PoppedTask(task.task_id, str(task.body["name"]), task.status.value, None, "project", parameters)


class _Training:
    """Time passes; then the attempt succeeds, fails for its data, or its host is shut down."""

    def __init__(self, shop: Workshop, process: Process) -> None:
        self._shop = shop
        self._process = process

    async def run(self, job: Job) -> Outcome:
        kernel = self._shop.kernel
        rng = kernel.rng
        self._shop.executions.append(
            Execution(job.run_id, job.attempt, job.task.id, job.claim, self._process.writer, kernel.now)
        )
        kernel.note(self._process.writer, f"trains {job.task.id}")
        await Sleep(0.05 + rng.random() ** 3 * 20.0)
        luck = rng.random()
        if luck < 0.7:
            return Succeeded({"metric": "accuracy", "value": 0.9}, _MODEL)
        if luck < 0.8:
            return Failed(Reason.INVALID_DATASET, "label_missing", "no such column")
        return Stopped(Reason.HOST_SHUTDOWN)


class _Publisher:
    async def publish(self, job: Job, outcome: Succeeded) -> Mapping[str, Any]:
        return dict(outcome.results)


class _Outbox:
    """Durable: what is in it survives the process, and is delivered by the next one."""

    def __init__(self, log: _Log, disk: dict[str, Event], patience: _Patience, process: Process) -> None:
        self._log = log
        self._disk = disk
        self._patience = patience
        self._process = process

    async def deliver(self, event: Event) -> None:
        self._disk[event.id] = event
        self._process.shielded = False
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
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def now(self) -> float:
        return self._kernel.now

    async def wait(self, tries: int) -> None:
        await Sleep(min(5.0, 0.2 * 2.0**tries))
