"""The protocol's `Log` over Kafka: `runs.lifecycle`, read and written at the run's own partition."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from trainyard_runtime.kafka.async_log import LogReader, LogWriter, tail
from trainyard_runtime.kafka.records import LogUnavailable, OffsetGone
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import AttemptQueued, Event, decode_event, encode_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_schemas.vocabulary import EventType
from trainyard_trainer_worker.ports import RunRecords

WAKE_RETRY_S = 5.0
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

    async def read_run(self, run_id: str, from_offset: int) -> RunRecords:
        """See ports.Log. Nothing at all where the log no longer holds `from_offset`."""
        partition, key = partition_of(run_id, RUN_PARTITIONS), run_id.encode()
        try:
            records = await self._reader.read_to_end(self._topic, partition, from_offset)
        except OffsetGone:
            return RunRecords((), from_offset)
        events: list[tuple[int, Event]] = []
        for record in records:
            if record.key != key:
                continue
            with contextlib.suppress(ContractError):
                event = decode_event(record.value, record.headers)
                if event.fact.run_id == run_id:
                    events.append((record.offset, event))
        return RunRecords(tuple(events), records[-1].offset + 1 if records else from_offset)

    async def is_readable(self, timeout_s: float) -> bool:
        """True where the log answers within `timeout_s` (and the topic exists)."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._reader.end_offsets(self._topic)
        except (LogUnavailable, TimeoutError):
            return False
        return True


async def wake_on_queued(settings: KafkaSettings, queues: Collection[str], wake: Callable[[], None]) -> None:
    """Call `wake` whenever an attempt was queued on one of `queues`. Never returns; polling is the fallback."""
    topic = settings.topic(TopicName.RUNS_LIFECYCLE)
    log = get_logger(component="wake")
    while True:
        try:
            async for records in tail(settings, [topic], client_id="trainyard-trainer-worker-wake", on_ready=wake):
                if any(_queued_on(record.value, record.headers, queues) for record in records):
                    wake()
        except LogUnavailable as problem:
            log.warning("not woken by the log", action="wake", error=str(problem))
            await asyncio.sleep(WAKE_RETRY_S)


def _queued_on(value: bytes | None, headers: tuple[tuple[str, bytes | None], ...], queues: Collection[str]) -> bool:
    if value is None or _QUEUED_MARK not in value:
        return False
    try:
        fact = decode_event(value, headers).fact
    except ContractError:
        return False
    return isinstance(fact, AttemptQueued) and fact.queue in queues
