"""The trainer worker, put together: `build` makes it, `TrainerWorker.run` lets it work until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack

from trainyard_runtime.clearml import ClearMLClient, ClearMLSettings
from trainyard_runtime.health import HealthServer, Readiness
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_runtime.outbox import Outbox, OutboxUnavailable
from trainyard_runtime.settings import blamed_on
from trainyard_trainer_worker.answering import AnsweringPublisher, AnsweringTraining
from trainyard_trainer_worker.attempt_runner import AttemptRunner, Bounds
from trainyard_trainer_worker.clearml_publishing import ClearMLPublisher
from trainyard_trainer_worker.clearml_queue import ClearMLQueues, Popped
from trainyard_trainer_worker.clearml_tasks import ClearMLTasks
from trainyard_trainer_worker.data.cache import DataCache
from trainyard_trainer_worker.data.fetching import DataFetcher
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.folders import Folders
from trainyard_trainer_worker.fork_servers import ForkServers
from trainyard_trainer_worker.heartbeats import heartbeat_sender
from trainyard_trainer_worker.kafka_lifecycle import KafkaLifecycle, News
from trainyard_trainer_worker.kafka_requests import KafkaRequests
from trainyard_trainer_worker.metrics import WorkerMetrics
from trainyard_trainer_worker.outcomes import Outcomes
from trainyard_trainer_worker.ports import Ending, Ports
from trainyard_trainer_worker.protocol import Handled, Worker, handle, settle
from trainyard_trainer_worker.serving import Serving, StoppablePatience, beside
from trainyard_trainer_worker.settings import TrainerWorkerSettings

SERVICE = "trainer-worker"
CLIENT_ID = "trainyard-trainer-worker"
UNREGISTER_S = 0.5


class TrainerWorker:
    """One process's worker. `run` once, inside an event loop."""

    def __init__(
        self,
        settings: TrainerWorkerSettings,
        kafka: KafkaSettings,
        clearml: ClearMLSettings,
        data: DataSettings,
        folders: Folders,
    ) -> None:
        self._settings = settings
        self._data = data
        self._folders = folders
        self._kafka = kafka
        self._clearml = clearml
        self._log = get_logger(component="app")
        self.address = ""

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set; then end the child, tell the log and ClearML, and return within 2 s."""
        async with AsyncExitStack() as stack:
            outbox = None
            if self._folders.outbox is not None:
                with blamed_on("TRAINYARD_STATE_DIR", OutboxUnavailable):
                    outbox = stack.enter_context(Outbox(self._folders.outbox))
            client = await stack.enter_async_context(ClearMLClient(self._clearml))
            writer, reader = LogWriter(self._kafka, client_id=CLIENT_ID), LogReader(self._kafka, client_id=CLIENT_ID)
            stack.push_async_callback(writer.stop)
            stack.push_async_callback(reader.stop)
            await self._serve(stack, stopping, client, writer, reader, outbox)

    async def _serve(
        self,
        stack: AsyncExitStack,
        stopping: asyncio.Event,
        client: ClearMLClient,
        writer: LogWriter,
        reader: LogReader,
        outbox: Outbox | None,
    ) -> None:
        settings, work_dir = self._settings, self._folders.work
        worker = Worker(settings.name(), uuid.uuid4().hex, self._kafka.topic_prefix, settings.default_deadline_s)
        news = News(self._kafka, settings.queues)
        patience = StoppablePatience(stopping, news)
        log = KafkaLifecycle(self._kafka, writer, reader)
        outcomes = Outcomes(self._kafka, writer, outbox, patience)
        queues = ClearMLQueues(client, worker.name, settings.queues)
        with blamed_on("TRAINYARD_DATA_CACHE_DIR", OSError):
            cache = DataCache(self._folders.data_cache, self._data.cache_max_bytes)
        metrics = WorkerMetrics(lambda: outcomes.depth, lambda: float(queues.is_served))
        fork_servers = ForkServers(settings.n_jobs, settings.trainer_pythons)
        stack.push_async_callback(fork_servers.close)
        runner = AttemptRunner(
            Bounds(work_dir, settings.data_roots, settings.n_jobs, settings.memory_limit_bytes),
            worker,
            client,
            heartbeat_sender(self._kafka, writer),
            stopping,
            metrics.phase,
            data=DataFetcher(self._data, client, cache),
            fork_servers=fork_servers,
        )
        publisher = ClearMLPublisher(
            client,
            patience,
            worker=worker.name,
            model_tags=settings.model_tags,
            publish_models=settings.model_publish,
            work_dir_of=runner.work_dir_of,
        )
        ports = Ports(
            log=log,
            requests=KafkaRequests(self._kafka, writer),
            tasks=ClearMLTasks(client),
            training=AnsweringTraining(runner),
            publisher=AnsweringPublisher(publisher, runner.over),
            outbox=outcomes,
            patience=patience,
            beside=beside,
            new_claim=lambda: uuid.uuid4().hex,
        )

        async def handle_popped(popped: Popped) -> Handled:
            handled = await handle(popped.task_id, popped.queue, worker, ports)
            if not stopping.is_set():  # else ClearML may not have been told: the next start tells it
                outcomes.settle()
            return handled

        serving = Serving(
            queues, log, handle_popped, metrics, poll_s=settings.poll_s, work_dir=work_dir, stopping=stopping
        )

        news.on_queued = serving.wake

        def readiness() -> Readiness:
            checks = {
                "clearml": "registered" if queues.is_served else "not registered",
                "log": "readable" if serving.log_is_readable else "not readable",
            }
            return Readiness(queues.is_served and serving.log_is_readable, checks)

        health = HealthServer(
            SERVICE, settings.http_host, settings.http_port, readiness=readiness, metrics=metrics.render
        )
        await health.start()
        stack.push_async_callback(health.stop)
        self.address = health.address
        self._log.info("started", action="start", address=health.address, worker=worker.name)
        background = [
            asyncio.create_task(serving.watch_log(), name="watch-log"),
            asyncio.create_task(serving.report_for_ever(), name="report"),
            asyncio.create_task(news.listen(), name="news"),
            asyncio.create_task(_preload(fork_servers, settings.preload), name="preload"),
            asyncio.create_task(_wake_at_end(stopping, serving), name="wake-at-end"),
        ]
        work = asyncio.create_task(_work(outcomes, serving, ports), name="serve")
        try:
            await asyncio.wait([work, *background], return_when=asyncio.FIRST_COMPLETED)
            await _first_failure([work, *background])
            await work
        finally:
            for task in (work, *background):
                task.cancel()
            await asyncio.gather(work, *background, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UNREGISTER_S):
                    await queues.unregister()


def build(
    settings: TrainerWorkerSettings,
    kafka: KafkaSettings,
    clearml: ClearMLSettings,
    data: DataSettings,
    folders: Folders,
) -> TrainerWorker:
    """The worker of these settings in folders that are its own (`own_folders`); no connection is made before `run`."""
    return TrainerWorker(settings, kafka, clearml, data, folders)


async def _work(outcomes: Outcomes, serving: Serving, ports: Ports) -> None:
    try:
        for event in await outcomes.replay():
            await settle(event, ports)
        outcomes.settle()
    except Ending:
        return
    await serving.serve()


async def _preload(fork_servers: ForkServers, trainers: Sequence[str]) -> None:
    """Never returns: it is one of the tasks whose end is the worker's."""
    await fork_servers.preload(trainers)
    await asyncio.Event().wait()


async def _wake_at_end(stopping: asyncio.Event, serving: Serving) -> None:
    await stopping.wait()
    serving.wake()


async def _first_failure(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and task.exception() is not None:
            await task
