"""The protocol's `Log` over Kafka: `runs.lifecycle`, read and written at the run's own partition."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from trainyard_runtime.kafka.async_log import LogReader, LogWriter, tail
from trainyard_runtime.kafka.facts import event_in
from trainyard_runtime.kafka.records import LogUnavailable, OffsetGone, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import AttemptQueued, Event, decode_event, encode_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_schemas.vocabulary import EventType
from trainyard_trainer_worker.ports import RunRecords

WAKE_RETRY_S = 5.0
MAX_RUNS = 1_024
"""Runs of which news is noted, the oldest is forgotten first: four times as many as a process may have slots."""
_QUEUED_MARK = EventType.ATTEMPT_QUEUED.value.encode()


class KafkaLifecycle:
    """Reads and appends; every record of a run at the partition that our own function computes."""

    def __init__(self, settings: KafkaSettings, writer: LogWriter, reader: LogReader) -> None:
        self._topic = settings.topic(TopicName.RUNS_LIFECYCLE)
        self._writer = writer
        self._reader = reader

    async def append(self, event: Event) -> None:
        """See ports.Log."""
        value, headers = encode_event(event)
        run_id = event.fact.run_id
        await self._writer.append(
            self._topic,
            partition=partition_of(run_id, RUN_PARTITIONS),
            key=run_id.encode(),
            value=value,
            headers=headers,
        )

    async def read_run(self, run_id: str, from_offset: int | None) -> RunRecords:
        """See ports.Log. Nothing at all where the log no longer holds `from_offset`."""
        partition, key = partition_of(run_id, RUN_PARTITIONS), run_id.encode()
        if from_offset is None:
            from_offset = (await self._reader.first_offsets(self._topic)).get(partition, 0)
        try:
            records = await self._reader.read_to_end(self._topic, partition, from_offset)
        except OffsetGone:
            return RunRecords((), from_offset)
        events: list[tuple[int, Event]] = []
        for record in records:
            if record.key != key:
                continue
            with contextlib.suppress(ContractError):
                events.append((record.offset, event_in(record)))
        return RunRecords(tuple(events), records[-1].offset + 1 if records else from_offset)

    async def is_readable(self, timeout_s: float) -> bool:
        """True where the log answers within `timeout_s` (and the topic exists)."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._reader.end_offsets(self._topic)
        except (LogUnavailable, TimeoutError):
            return False
        return True


class News:
    """One tail of `runs.lifecycle` for the whole process: wakes whoever waits for an attempt on the queues that are
    served, or for anything new of a run. A record may be missed while Kafka is away: it is never the only source."""

    def __init__(self, settings: KafkaSettings, queues: Collection[str]) -> None:
        self._settings = settings
        self._topic = settings.topic(TopicName.RUNS_LIFECYCLE)
        self._queues = queues
        self._of_run: dict[str, asyncio.Event] = {}
        self._log = get_logger(component="news")
        self.on_queued: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None

    async def of_run(self, run_id: str, at_most_s: float) -> None:
        """Wait for a record of this run, `at_most_s` seconds. One waits for each run."""
        event = self._of_run[run_id] = self._of_run.pop(run_id, asyncio.Event())
        if len(self._of_run) > MAX_RUNS:
            del self._of_run[next(iter(self._of_run))]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(at_most_s):
                    await event.wait()
        finally:
            event.clear()

    async def listen(self) -> None:
        """Never returns; polling is the fallback."""
        while True:
            try:
                async for records in tail(
                    self._settings,
                    [self._topic],
                    client_id="trainyard-trainer-worker-news",
                    on_ready=lambda: self.on_ready(),
                ):
                    self._take(records)
            except LogUnavailable as problem:
                self._log.warning("not woken by the log", action="listen", error=str(problem))
                await asyncio.sleep(WAKE_RETRY_S)

    def _take(self, records: list[Record]) -> None:
        for record in records:
            event = self._of_run.get((record.key or b"").decode("ascii", "replace"))
            if event is not None:
                event.set()
        if any(_queued_on(record.value, record.headers, self._queues) for record in records):
            self.on_queued()


def _queued_on(value: bytes | None, headers: tuple[tuple[str, bytes | None], ...], queues: Collection[str]) -> bool:
    if value is None or _QUEUED_MARK not in value:
        return False
    try:
        fact = decode_event(value, headers).fact
    except ContractError:
        return False
    return isinstance(fact, AttemptQueued) and fact.queue in queues
