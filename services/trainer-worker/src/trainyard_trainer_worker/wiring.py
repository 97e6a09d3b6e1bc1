"""The protocol's ports over real Kafka, real ClearML and real children: what every process that trains is built on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from trainyard_runtime.clearml import ClearMLClient, ClearMLSettings
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.outbox import Outbox, OutboxUnavailable
from trainyard_runtime.settings import blamed_on
from trainyard_trainer_worker.answering import AnsweringPublisher, AnsweringTraining
from trainyard_trainer_worker.attempt_runner import AttemptRunner, Bounds
from trainyard_trainer_worker.clearml_publishing import ClearMLPublisher
from trainyard_trainer_worker.clearml_tasks import ClearMLTasks
from trainyard_trainer_worker.data.cache import DataCache
from trainyard_trainer_worker.data.fetching import DataFetcher
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.folders import Folders
from trainyard_trainer_worker.fork_servers import ForkServers
from trainyard_trainer_worker.heartbeats import heartbeat_sender
from trainyard_trainer_worker.kafka_lifecycle import KafkaLifecycle, News
from trainyard_trainer_worker.kafka_requests import KafkaRequests
from trainyard_trainer_worker.outcomes import Outcomes
from trainyard_trainer_worker.ports import Ports
from trainyard_trainer_worker.protocol import Worker
from trainyard_trainer_worker.serving import StoppablePatience, beside
from trainyard_trainer_worker.settings import TrainerWorkerSettings

CLIENT_ID = "trainyard-trainer-worker"


@dataclass(frozen=True, slots=True)
class Wired:
    """`ports` for `protocol.handle`, and what stands behind them. `news.listen` must run beside."""

    worker: Worker
    ports: Ports
    client: ClearMLClient
    log: KafkaLifecycle
    news: News
    outcomes: Outcomes
    fork_servers: ForkServers


@asynccontextmanager
async def wired(
    settings: TrainerWorkerSettings,
    kafka: KafkaSettings,
    clearml: ClearMLSettings,
    data: DataSettings,
    folders: Folders,
    stopping: asyncio.Event,
    on_phase: Callable[[str, float], None],
) -> AsyncIterator[Wired]:
    """Everything that an attempt needs, closed on leaving. No connection is made before the first call of a port.

    `stopping` set ends what runs as a shutdown of this host. Raises ConfigurationError for a folder of no use.
    """
    worker = Worker(settings.name(), uuid.uuid4().hex, kafka.topic_prefix, settings.default_deadline_s)
    async with AsyncExitStack() as stack:
        outbox = None
        if folders.outbox is not None:
            with blamed_on("TRAINYARD_STATE_DIR", OutboxUnavailable):
                outbox = stack.enter_context(Outbox(folders.outbox))
        client = await stack.enter_async_context(ClearMLClient(clearml))
        writer, reader = LogWriter(kafka, client_id=CLIENT_ID), LogReader(kafka, client_id=CLIENT_ID)
        stack.push_async_callback(writer.stop)
        stack.push_async_callback(reader.stop)
        news = News(kafka, settings.queues)
        patience = StoppablePatience(stopping, news)
        log, outcomes = KafkaLifecycle(kafka, writer, reader), Outcomes(kafka, writer, outbox, patience)
        with blamed_on("TRAINYARD_DATA_CACHE_DIR", OSError):
            cache = DataCache(folders.data_cache, data.cache_max_bytes)
        fork_servers = ForkServers(settings.n_jobs, settings.trainer_pythons)
        stack.push_async_callback(fork_servers.close)
        runner = AttemptRunner(
            Bounds(folders.work, settings.data_roots, settings.n_jobs, settings.memory_limit_bytes),
            worker,
            client,
            heartbeat_sender(kafka, writer),
            stopping,
            on_phase,
            data=DataFetcher(data, client, cache),
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
            requests=KafkaRequests(kafka, writer),
            tasks=ClearMLTasks(client),
            training=AnsweringTraining(runner),
            publisher=AnsweringPublisher(publisher, runner.over),
            outbox=outcomes,
            patience=patience,
            beside=beside,
            new_claim=lambda: uuid.uuid4().hex,
        )
        yield Wired(worker, ports, client, log, news, outcomes, fork_servers)
