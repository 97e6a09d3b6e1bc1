"""New records as they come: for wake-ups and live views."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final, Literal

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from trainyard_runtime.kafka.async_log.client import client_options, describe, record_of
from trainyard_runtime.kafka.async_log.consumer import LOOK_ROUND_MS
from trainyard_runtime.kafka.records import LogUnavailable, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger

_WAIT_MS: Final = 5_000
"""How long the broker holds an empty fetch: an idle tail asks this seldom, and still hears of a record at once."""

_ANSWER_MS: Final = 10_000


async def tail(
    settings: KafkaSettings,
    topics: Iterable[str],
    *,
    start: Literal["end", "beginning"] = "end",
    client_id: str = "trainyard-tail",
    on_ready: Callable[[], None] = lambda: None,
) -> AsyncGenerator[list[Record], None]:
    """Batches of new records of all partitions of the topics, as they come; without a group, nothing is committed.

    `on_ready` is called once when the start position is fixed: every later record will come.
    For wake-ups and live views: a record may be missed while Kafka is away, so it must not be the only source. Waits
    without limit. Raises LogUnavailable when Kafka cannot be reached at the start.
    """
    names = list(topics)
    consumer = AIOKafkaConsumer(
        *names,
        **client_options(settings),
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="latest" if start == "end" else "earliest",
        fetch_max_wait_ms=_WAIT_MS,
        consumer_timeout_ms=LOOK_ROUND_MS,
        request_timeout_ms=_WAIT_MS + _ANSWER_MS,
    )
    try:
        try:
            await consumer.start()
            partitions = sorted(consumer.assignment())
            missing = sorted(set(names) - {partition.topic for partition in partitions})
            if missing:
                raise LogUnavailable(f"topics do not exist: {', '.join(missing)}; create them (trainyard topics apply)")
            await (consumer.seek_to_end() if start == "end" else consumer.seek_to_beginning())
            for partition in partitions:
                await consumer.position(partition)
        except (KafkaError, OSError) as error:
            raise LogUnavailable(f"Kafka at {settings.bootstrap} does not answer ({describe(error)})") from error
        on_ready()
        while True:
            try:
                batches = await consumer.getmany(timeout_ms=60_000)
            except KafkaError as error:
                get_logger(component="tail").warning("tail interrupted", action="tail", error=describe(error))
                await asyncio.sleep(1)
                continue
            records = [record_of(raw) for batch in batches.values() for raw in batch]
            if records:
                yield records
    finally:
        with contextlib.suppress(KafkaError, OSError):
            await consumer.stop()
