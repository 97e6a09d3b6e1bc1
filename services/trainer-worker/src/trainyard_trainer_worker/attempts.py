"""What one slot needs to take tasks to their end: its own names, folder and outcomes over what the process shares."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from trainyard_runtime.clearml import ClearMLClient
from trainyard_runtime.kafka.async_log import LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.outbox import Outbox
from trainyard_trainer_worker.answering import AnsweringPublisher, AnsweringTraining
from trainyard_trainer_worker.attempt_runner import AttemptRunner, Bounds
from trainyard_trainer_worker.clearml_publishing import ClearMLPublisher
from trainyard_trainer_worker.clearml_queue import ClearMLQueues, Popped
from trainyard_trainer_worker.clearml_tasks import ClearMLTasks
from trainyard_trainer_worker.data.fetching import DataFetcher
from trainyard_trainer_worker.fork_servers import ForkServers
from trainyard_trainer_worker.heartbeats import heartbeat_sender
from trainyard_trainer_worker.kafka_lifecycle import KafkaLifecycle
from trainyard_trainer_worker.kafka_requests import KafkaRequests
from trainyard_trainer_worker.metrics import WorkerMetrics
from trainyard_trainer_worker.outcomes import Outcomes
from trainyard_trainer_worker.ports import Ports, Tasks
from trainyard_trainer_worker.protocol import Handled, Worker, handle, settle
from trainyard_trainer_worker.serving import LogWatch, Slot, StoppablePatience, beside
from trainyard_trainer_worker.settings import TrainerWorkerSettings


@dataclass(frozen=True, slots=True)
class Shared:
    """What all slots of a process have in common; `writer_id` is this incarnation of it."""

    settings: TrainerWorkerSettings
    kafka: KafkaSettings
    work_dir: Path
    client: ClearMLClient
    writer: LogWriter
    log: KafkaLifecycle
    data: DataFetcher
    fork_servers: ForkServers
    outbox: Outbox | None
    patience: StoppablePatience
    draining: asyncio.Event
    stopping: asyncio.Event
    writer_id: str = field(default_factory=lambda: uuid.uuid4().hex)


class Attempts:
    """The attempts of one slot, one after the other."""

    def __init__(
        self, shared: Shared, name: str, folder: str, metrics: WorkerMetrics, tasks: Tasks | None = None
    ) -> None:
        """`name`: as ClearML and the events show the slot. `folder`: its own, below the work folder. `tasks`: in place
        of ClearML's as they are."""
        settings, client, patience = shared.settings, shared.client, shared.patience
        self._shared = shared
        self._work_dir = shared.work_dir / folder
        self._worker = Worker(name, shared.writer_id, shared.kafka.topic_prefix, settings.default_deadline_s)
        self.outcomes = Outcomes(shared.kafka, shared.writer, shared.outbox, patience)
        runner = AttemptRunner(
            Bounds(self._work_dir, settings.data_roots, settings.threads_per_slot(), settings.memory_limit_per_slot()),
            self._worker,
            client,
            heartbeat_sender(shared.kafka, shared.writer),
            shared.stopping,
            metrics.phase,
            data=shared.data,
            fork_servers=shared.fork_servers,
        )
        publisher = ClearMLPublisher(
            client,
            patience,
            worker=name,
            model_tags=settings.model_tags,
            publish_models=settings.model_publish,
            work_dir_of=runner.work_dir_of,
        )
        self._ports = Ports(
            log=shared.log,
            requests=KafkaRequests(shared.kafka, shared.writer),
            tasks=tasks or ClearMLTasks(client),
            training=AnsweringTraining(runner),
            publisher=AnsweringPublisher(publisher, runner.over),
            outbox=self.outcomes,
            patience=patience,
            beside=beside,
            new_claim=lambda: uuid.uuid4().hex,
        )

    def slot(self, log_watch: LogWatch, metrics: WorkerMetrics) -> Slot:
        """The slot that these attempts run in."""
        shared = self._shared
        return Slot(
            ClearMLQueues(shared.client, self._worker.name, shared.settings.queues),
            log_watch,
            self.handle,
            metrics,
            poll_s=shared.settings.poll_s,
            work_dir=self._work_dir,
            draining=shared.draining,
            stopping=shared.stopping,
        )

    async def replay(self) -> None:
        """Send what a former incarnation left in the outbox, and tell ClearML. Raises Ending."""
        for event in await self.outcomes.replay():
            await settle(event, self._ports)
        self.outcomes.settle()

    async def handle(self, popped: Popped) -> Handled:
        """Take one popped task to its end."""
        handled = await handle(popped.task_id, popped.queue, self._worker, self._ports)
        if not self._shared.stopping.is_set():  # else ClearML may not have been told: the next start tells it
            self.outcomes.settle()
        return handled
