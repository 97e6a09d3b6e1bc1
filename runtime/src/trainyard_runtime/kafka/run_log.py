"""The lifecycle topic as a projection follows it: read to its end, wait until there is more, read on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

from trainyard_runtime.kafka.async_log import LogReader, tail
from trainyard_runtime.kafka.records import LogUnavailable, OffsetGone, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName

GATHER_S: Final = 0.2
"""How long new records are gathered before they are read and stored together: one fsync for many."""

_RETRY_S: Final = 1.0


class TopicUnfitError(RuntimeError):
    """The topic has another number of partitions than declared."""


class RunLog:
    """Reads `runs.lifecycle`.

    `available` and `why_not` tell whether the last question to Kafka was answered, `ends` the end offsets it named.
    """

    def __init__(self, kafka: KafkaSettings, reader: LogReader, resync_s: float, client_id: str) -> None:
        self.topic = kafka.topic(TopicName.RUNS_LIFECYCLE)
        self.available = False
        self.why_not = "has not been read yet"
        self.ends: Mapping[int, int] = {}
        self._kafka = kafka
        self._reader = reader
        self._resync_s = resync_s
        self._client_id = client_id
        self._more = asyncio.Event()
        self._empty: dict[int, tuple[int, int]] = {}
        """Per partition from where to where there was no record, only markers of somebody's transactions."""
        self._log = get_logger(component="lifecycle")

    async def bounds(self) -> tuple[dict[int, int], dict[int, int]]:
        """The first and the end offsets per partition. Waits for Kafka and the topic; refuses another partition count.

        Raises TopicUnfitError.
        """
        while True:
            try:
                first, ends = await self._reader.first_offsets(self.topic), await self._reader.end_offsets(self.topic)
            except LogUnavailable as error:
                await self._unavailable(error)
                continue
            if len(ends) != RUN_PARTITIONS:
                raise TopicUnfitError(
                    f"topic {self.topic} has {len(ends)} partitions, not {RUN_PARTITIONS}; use a new"
                    " TRAINYARD_TOPIC_PREFIX or create the topics again (trainyard topics apply)"
                )
            return first, ends

    async def cluster_id(self) -> str:
        """The cluster's own id."""
        return await self._reader.cluster_id()

    async def news(
        self, next_offsets: Callable[[], Mapping[int, int]]
    ) -> AsyncGenerator[tuple[int, list[Record]] | None]:
        """For ever: a partition's records from `next_offsets()` to its end, one partition at a time to bound memory.

        None says that the end of all is reached; then it waits until there is more. Raises OffsetGone where an offset
        is not in the log any more.
        """
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                self._more.clear()
                moved = False
                try:
                    async for found in self._read(next_offsets()):
                        moved = True
                        yield found
                except LogUnavailable as error:
                    await self._unavailable(error)
                    continue
                self.available, self.why_not = True, "ok"
                if moved:
                    continue  # perhaps there is more by now
                yield None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._resync_s):
                        await self._more.wait()
                        await asyncio.sleep(GATHER_S)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _read(self, next_offsets: Mapping[int, int]) -> AsyncGenerator[tuple[int, list[Record]]]:
        self.ends = ends = await self._reader.end_offsets(self.topic)
        for partition, end in ends.items():
            start = next_offsets[partition]
            if start > end:
                raise OffsetGone(f"{self.topic}-{partition} ends at {end}, before {start}: it was created again")
            empty_from, empty_to = self._empty.get(partition, (0, 0))
            read_from = empty_to if start == empty_from else start
            if read_from < end:
                records, reached = await self._reader.read_on(self.topic, partition, read_from)
                if records:
                    yield partition, records
                else:
                    self._empty[partition] = (start, reached)

    async def _watch(self) -> None:
        """Set `_more` whenever somebody appends; what it misses while Kafka is away, the next resync finds."""
        while True:
            try:
                async for _ in tail(self._kafka, [self.topic], client_id=self._client_id, on_ready=self._more.set):
                    self._more.set()
            except LogUnavailable as error:
                await self._unavailable(error)

    async def _unavailable(self, error: LogUnavailable) -> None:
        self.available, self.why_not = False, str(error)
        self._log.warning("the log cannot be read", action="wait", error=str(error))
        await asyncio.sleep(_RETRY_S)
