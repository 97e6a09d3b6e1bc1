"""What every process that trains is built on: real Kafka, real ClearML, fetched data and children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from trainyard_runtime.clearml import ClearMLClient, ClearMLSettings
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.outbox import Outbox, OutboxUnavailable
from trainyard_runtime.settings import blamed_on
from trainyard_trainer_worker.attempts import Shared
from trainyard_trainer_worker.data.cache import DataCache
from trainyard_trainer_worker.data.fetching import DataFetcher
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.folders import Folders, clear
from trainyard_trainer_worker.fork_servers import ForkServers
from trainyard_trainer_worker.kafka_lifecycle import KafkaLifecycle, News
from trainyard_trainer_worker.serving import StoppablePatience
from trainyard_trainer_worker.settings import TrainerWorkerSettings

CLIENT_ID = "trainyard-trainer-worker"


@asynccontextmanager
async def wired(
    settings: TrainerWorkerSettings,
    kafka: KafkaSettings,
    clearml: ClearMLSettings,
    data: DataSettings,
    folders: Folders,
    draining: asyncio.Event,
    stopping: asyncio.Event,
) -> AsyncIterator[tuple[Shared, News]]:
    """All that attempts share, closed on leaving; `News.listen` must run beside them.

    `stopping` set ends what runs as a shutdown of this host. Raises ConfigurationError for a folder of no use.
    """
    async with AsyncExitStack() as stack:
        outbox = None
        if folders.outbox is not None:
            with blamed_on("TRAINYARD_STATE_DIR", OutboxUnavailable):
                outbox = stack.enter_context(Outbox(folders.outbox))
        with blamed_on("TRAINYARD_DATA_CACHE_DIR", OSError):
            cache = DataCache(folders.data_cache, data.cache_max_bytes)
        clear(folders.work)  # what a former incarnation left
        client = await stack.enter_async_context(ClearMLClient(clearml))
        writer, reader = LogWriter(kafka, client_id=CLIENT_ID), LogReader(kafka, client_id=CLIENT_ID)
        stack.push_async_callback(writer.stop)
        stack.push_async_callback(reader.stop)
        fork_servers = ForkServers(folders.work, settings.threads_per_slot(), settings.trainer_pythons)
        stack.push_async_callback(fork_servers.close)
        news = News(kafka, settings.queues)
        shared = Shared(
            settings,
            kafka,
            folders.work,
            client,
            writer,
            KafkaLifecycle(kafka, writer, reader),
            DataFetcher(data, client, cache),
            fork_servers,
            outbox,
            StoppablePatience(stopping, news),
            draining,
            stopping,
        )
        yield shared, news
