"""Reads of one partition: up to its end, as it stood when the read began.

Built on aiokafka's client and protocol classes rather than its consumer: a consumer keeps a long fetch open in the
background, behind which the next question on the same connection waits; here a read is one short fetch, whose answer
also says where the partition ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from trainyard_runtime.kafka.async_log.client import client_options, record_in
from trainyard_runtime.kafka.records import LogUnavailable, OffsetGone, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger

_FETCH_BYTES: Final = 8 * 1024 * 1024
_READ_UNCOMMITTED: Final = 0
_READ_COMMITTED: Final = 1
_LATEST: Final = -1
_EARLIEST: Final = -2
_RETRY_PAUSE_S: Final = 0.1
T = TypeVar("T")
_LOG = get_logger(component="log_reader")


class LogReader:
    """Prefix reads of partitions, from their leaders. Safe for concurrent use by many coroutines of one loop.

    Every call may be repeated; each raises LogUnavailable after `timeout_s` without an answer.
    """

    def __init__(
        self, settings: KafkaSettings, *, client_id: str = "trainyard-reader", timeout_s: float = 10.0
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._client: AIOKafkaClient | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Connect. Raises LogUnavailable when no broker answers."""
        await self._connected()

    async def stop(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def read_to_end(self, topic: str, partition: int, from_offset: int) -> list[Record]:
        """All records from `from_offset` to the end as it stood when the call began, perhaps a few more.

        Raises OffsetGone where `from_offset` is before the first record or after the end.
        """
        records, _ = await self.read_on(topic, partition, from_offset)
        return records

    async def read_on(self, topic: str, partition: int, from_offset: int) -> tuple[list[Record], int]:
        """The same, and the offset to read on from: beyond the last record there may be markers of transactions."""
        records: list[Record] = []
        position = from_offset
        end: int | None = None
        while end is None or position < end:
            fetch = partial(self._fetch, topic, partition, position)
            found, position, high = await self._patiently(topic, fetch)
            end = high if end is None else end
            records += found
        return records, position

    async def read_at(self, topic: str, partition: int, offset: int) -> Record:
        """The one record at `offset`. Raises OffsetGone where it is not (any more) there."""
        found, _, _ = await self._patiently(topic, partial(self._fetch, topic, partition, offset))
        for record in found:
            if record.offset == offset:
                return record
        raise OffsetGone(f"{topic}-{partition} holds no record at {offset}")

    async def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get."""
        return (await self.end_offsets(topic))[partition]

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Per partition of the topic, the offset that the next record will get."""
        return await self._patiently(topic, partial(self._offsets, topic, _LATEST))

    async def stable_offsets(self, topic: str) -> dict[int, int]:
        """Per partition, how far a consumer group can come: before the first transaction that is still open."""
        return await self._patiently(topic, partial(self._offsets, topic, _LATEST, _READ_COMMITTED))

    async def record_ends(self, topic: str) -> dict[int, int]:
        """Per partition the offset after its last record; what a fold can reach. Nothing but markers may follow it."""
        firsts, ends = await self.first_offsets(topic), await self.end_offsets(topic)

        async def found(partition: int, end: int) -> int:
            while end > firsts[partition]:
                records, _, _ = await self._patiently(topic, partial(self._fetch, topic, partition, end - 1))
                if records:
                    break
                end -= 1
            return end

        return dict(zip(ends, await asyncio.gather(*(found(*end) for end in ends.items())), strict=True))

    async def first_offsets(self, topic: str) -> dict[int, int]:
        """Per partition of the topic, the offset of the first record that is still there."""
        return await self._patiently(topic, partial(self._offsets, topic, _EARLIEST))

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""
        return len(await self.end_offsets(topic))

    async def cluster_id(self) -> str:
        """The cluster's own id, which tells one cluster from another under the same address."""
        client = await self._connected()
        return str(getattr(client.cluster, "cluster_id", "") or "")

    async def _connected(self) -> AIOKafkaClient:
        if self._client is not None:
            return self._client
        async with self._starting:
            if self._client is None:
                client = AIOKafkaClient(
                    **client_options(self._settings),
                    client_id=self._client_id,
                    request_timeout_ms=int(self._timeout_s * 1000),
                )
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await client.bootstrap()
                except (KafkaError, OSError, TimeoutError) as error:
                    await client.close()
                    raise LogUnavailable(f"Kafka at {self._settings.bootstrap} does not answer ({error})") from error
                self._client = client
            return self._client

    async def _patiently(self, topic: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, with fresh metadata after each failure, for at most `timeout_s`."""
        give_up_at = time.monotonic() + self._timeout_s
        while True:
            try:
                async with asyncio.timeout(max(0.1, give_up_at - time.monotonic())):
                    return await ask()
            except OffsetOutOfRangeError as error:
                raise OffsetGone(f"{topic}: {error}") from error
            except (KafkaError, OSError, TimeoutError) as error:
                if time.monotonic() + _RETRY_PAUSE_S >= give_up_at:
                    raise LogUnavailable(f"no answer about {topic} ({type(error).__name__}: {error})") from error
            if self._client is not None:
                self._client.force_metadata_update()
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _fetch(self, topic: str, partition: int, offset: int) -> tuple[list[Record], int, int]:
        """The records of one fetch that does not wait, the next position, and the partition's end."""
        client = await self._connected()
        node = await _leader(client, topic, partition)
        request = FetchRequest(
            0, 1, _FETCH_BYTES, _READ_UNCOMMITTED, [(topic, [(partition, offset, _FETCH_BYTES)])], rack_id=""
        )
        response = await client.send(node, request)
        ((_, ((_, code, high, *rest),)),) = response.topics
        _check(code, f"partition {partition}, offset {offset}")
        records, position = _records(topic, partition, offset, rest[-1])
        return records, position, int(high)

    async def _offsets(self, topic: str, timestamp: int, isolation: int = _READ_UNCOMMITTED) -> dict[int, int]:
        client = await self._connected()
        partitions = sorted(await client._wait_on_metadata(topic))
        by_node: dict[int, list[tuple[int, int]]] = {}
        for partition in partitions:
            by_node.setdefault(await _leader(client, topic, partition), []).append((partition, timestamp))
        found: dict[int, int] = {}
        for node, asked in by_node.items():
            response = await client.send(node, OffsetRequest(-1, isolation, [(topic, asked)]))
            for _, answers in response.topics:
                for partition, code, *rest in answers:
                    _check(code, f"partition {partition}")
                    found[partition] = int(rest[1])
        return found


async def _leader(client: AIOKafkaClient, topic: str, partition: int) -> int:
    await client._wait_on_metadata(topic)
    node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    if node is None or node == -1:
        raise KafkaError(f"{topic}-{partition} has no leader now")
    return int(node)


def _check(code: int, where: str) -> None:
    error = for_code(code)
    if code != 0:
        raise error(where)


def _records(topic: str, partition: int, offset: int, data: bytes) -> tuple[list[Record], int]:
    records: list[Record] = []
    position = offset
    for batch in _batches(data):
        try:
            for raw in () if batch.is_control_batch else batch:
                if raw.offset >= offset:
                    records.append(record_in(topic, partition, raw))
        except UnicodeDecodeError:
            # A header's name is not UTF-8: aiokafka can read neither that record nor what follows in its batch.
            _LOG.error("records of a batch are unreadable", topic=topic, partition=partition, after=len(records))
        position = max(position, int(batch.next_offset))
    return records, position


def _batches(data: bytes) -> Iterator[Any]:
    stored = MemoryRecords(data)
    while stored.has_next():
        batch = stored.next_batch()
        if not batch.validate_crc():
            raise KafkaError("a batch of records is damaged (its checksum is wrong)")
        yield batch
