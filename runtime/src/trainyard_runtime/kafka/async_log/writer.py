"""Appends, and the certainty of each."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from trainyard_runtime.kafka.async_log.client import client_options, describe
from trainyard_runtime.kafka.records import AppendUnknown, LogRefused, LogUnavailable, RecordHeaders
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger

MAX_RECORD_BYTES: Final = 2 * 1024 * 1024
"""The most that a producer sends; the broker's own limit per topic may be lower."""

_CLOSE_S = 1.0


class LogWriter:
    """Appends records and knows whether they are in the log.

    Guarantees: `append` returns only after all in-sync replicas have the record; a record is never given up silently.
    An idempotent producer that failed is replaced by a new one, so one failure does not poison the next append; a
    record that is appended again may then stand twice, which the fold ignores. Safe for concurrent use.
    """

    def __init__(self, settings: KafkaSettings, *, client_id: str = "trainyard", timeout_ms: int = 10_000) -> None:
        self._settings = settings
        self._client_id = client_id
        self._timeout_ms = timeout_ms
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._log = get_logger(component="log_writer")

    async def start(self) -> None:
        """Connect. Raises LogUnavailable when no broker answers."""
        await self._ready_producer()

    async def stop(self) -> None:
        """Send what is buffered and disconnect, within about a second."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer)
        for task in list(self._closing):
            await task

    async def append(
        self,
        topic: str,
        *,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: RecordHeaders = (),
    ) -> int:
        """Append one record to a partition; returns its offset.

        Raises:
            LogUnavailable: certainly nothing was appended.
            AppendUnknown: no acknowledgement came in time; append the very same record again.
            LogRefused: the record is beyond what the producer or the broker takes.
        """
        producer = await self._ready_producer()
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                delivery = await _send(producer, topic, partition, key, value, headers)
        except MessageSizeTooLargeError as error:
            raise LogRefused(f"a record for {topic} is larger than {MAX_RECORD_BYTES:,} bytes") from error
        except (KafkaError, TimeoutError) as error:
            self._replace(producer)
            raise LogUnavailable(f"{topic} takes no records now ({describe(error)})") from error
        try:
            async with asyncio.timeout(1.5 * self._timeout_ms / 1000):
                metadata = await asyncio.shield(delivery)  # else a cancelled caller would cancel the delivery itself
        except MessageSizeTooLargeError as error:
            raise LogRefused(f"the broker refused a record for {topic} as too large") from error
        except (KafkaError, TimeoutError, asyncio.CancelledError) as error:
            delivery.add_done_callback(_take_note)
            if isinstance(error, asyncio.CancelledError) and not delivery.cancelled():
                raise
            self._replace(producer)
            raise AppendUnknown(f"no acknowledgement from {topic}-{partition} ({describe(error)})") from error
        offset: int = metadata.offset
        return offset

    async def _ready_producer(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._starting:
            if self._producer is None:
                self._producer = await self._new_producer()
            return self._producer

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **client_options(self._settings),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            compression_type="gzip",  # every client reads it; lz4 ends a consumer of kafkajs, or of kafka-python alone
            linger_ms=0,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=self._timeout_ms,
        )
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _close(producer)
            raise LogUnavailable(f"Kafka at {self._settings.bootstrap} does not answer ({describe(error)})") from error
        return producer

    def _replace(self, producer: AIOKafkaProducer) -> None:
        """Let a failed producer go; the next append starts a new one."""
        if self._producer is not producer:
            return
        self._producer = None
        self._log.warning("producer replaced", action="replace_producer")
        task = asyncio.create_task(_close(producer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _send(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    key: bytes | None,
    value: bytes | None,
    headers: RecordHeaders,
) -> asyncio.Future[Any]:
    if key is not None or value is not None:
        sent = await producer.send(topic, value=value, key=key, partition=partition, headers=list(headers))
    else:  # the dead letter of a record without key and value; `send` asserts that there is one of them
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=None, headers=list(headers))
        sent = await producer.send_batch(batch, topic, partition=partition)
    delivery: asyncio.Future[Any] = sent
    return delivery


def _take_note(delivery: asyncio.Future[Any]) -> None:
    """A delivery that nobody waits for any more may fail in silence."""
    if not delivery.cancelled():
        delivery.exception()


async def _close(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await producer.stop()
