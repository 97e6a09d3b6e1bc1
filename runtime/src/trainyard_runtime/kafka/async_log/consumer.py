"""The consumer under every subscription: waits without polling, and starts where it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer import fetcher
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from trainyard_runtime.kafka.records import Record

KAFKA_ERRORS: Final = (KafkaError,)
"""What a consumer raises when Kafka does not do as asked."""

STAYING: Final = (StickyPartitionAssignor,)
"""Partitions stay with their member when another one joins: the lead does not move for nothing."""

LOOK_ROUND_MS: Final = 2_000
"""How often aiokafka's fetcher looks round where nothing has happened; its default of 200 ms is most of what an idle
consumer costs."""

_WAIT_MS: Final = 60_000
_UNREADABLE: Final = "the name of a header, of this record or of one before it in its batch, is not UTF-8"

RawRecord = Any
"""A record as aiokafka gives it; `record_of` reads it."""


class WaitingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer with two differences.

    `getmany` returns only when there is something, whatever its timeout: FastStream sleeps as long again after an empty
    answer, which costs latency or CPU. And `start_at` is sought before the first fetch.
    """

    def __init__(self, *topics: str, start_at: Mapping[tuple[str, int], int] | None = None, **options: Any) -> None:
        fetcher.PartitionRecords = _TolerantRecords  # there is no other way in
        super().__init__(*topics, **options)
        self._start_at = dict(start_at or {})

    async def start(self) -> None:
        await super().start()
        for (topic, partition), offset in self._start_at.items():
            self.seek(TopicPartition(topic, partition), offset)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[RawRecord]]:
        while True:
            found: dict[TopicPartition, list[RawRecord]] = await super().getmany(
                *partitions, timeout_ms=_WAIT_MS, max_records=max_records
            )
            if found:
                return found

    async def positions(self, timeout_s: float) -> dict[tuple[str, int], int]:
        """The positions of the partitions that are ours; those that are not known in time are left out."""
        found: dict[tuple[str, int], int] = {}
        for partition in self.assignment():
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    found[(partition.topic, partition.partition)] = await self.position(partition)
        return found

    async def commit_offsets(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Commit exactly these next offsets, for partitions that are still ours."""
        mine = self.assignment()
        wanted = {TopicPartition(*at): offset for at, offset in offsets.items() if TopicPartition(*at) in mine}
        if wanted:
            await self.commit(wanted)


class _TolerantRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """What a fetch brought of one partition, with a stand-in for a record that aiokafka cannot read.

    A header whose name is not UTF-8 makes aiokafka's parser raise, again after every fetch, and lose what it had read
    in the same call: one such record, which anybody may publish, would stop a partition for ever. The rest of the
    record's batch cannot be read either and is stood in for, record by record.
    """

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[RawRecord]:
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:
            at = self.next_fetch_offset
            self.next_fetch_offset = at + 1
            yield Record(self._tp.topic, self._tp.partition, at, 0, None, None, unreadable=_UNREADABLE)


class AssignmentListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells a callback which partitions are ours, after each rebalance and before each one none."""

    def __init__(self, on_change: Callable[[frozenset[tuple[str, int]]], None]) -> None:
        self._on_change = on_change

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._on_change(frozenset())

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._on_change(frozenset((tp.topic, tp.partition) for tp in assigned))
