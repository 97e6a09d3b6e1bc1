"""Copies to `runs.completed`, byte for byte, the terminal record that won in the fold of each run.

A projection with an offset of its own: a crash may repeat a copy, with the same event id, and never skips one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trainyard_dispatcher.intake_loop import Commit
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_dispatcher.run_index import RunIndex
from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.kafka.async_log import LogWriter
from trainyard_runtime.kafka.facts import event_in
from trainyard_runtime.kafka.records import LogUnavailable, Record
from trainyard_runtime.logs import get_logger
from trainyard_schemas.errors import ContractError
from trainyard_schemas.vocabulary import TERMINAL_EVENTS

_MARKS = tuple(event_type.value.encode() for event_type in sorted(TERMINAL_EVENTS))
_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 5.0


class CompletedCopier:
    """Handles batches of `runs.lifecycle`; commits after the copies are durable."""

    def __init__(self, index: RunIndex, log: LogWriter, completed_topic: str, metrics: DispatcherMetrics) -> None:
        self._index = index
        self._log = log
        self._topic = completed_topic
        self._metrics = metrics
        self._logger = get_logger(component="completed_copier")

    async def handle(self, records: Sequence[Record], commit: Commit) -> None:
        """Wait until the fold has reached the batch, copy its winning terminal records, commit."""
        ends: dict[tuple[str, int], int] = {}
        for record in records:
            ends[(record.topic, record.partition)] = record.offset + 1
        await self._index.reached({partition: offset for (_, partition), offset in ends.items()})
        for record in records:
            run_id = self._won(record)
            if run_id is not None:
                failpoint("O2")
                await self._copy(record, run_id)
        await commit(ends)

    def _won(self, record: Record) -> str | None:
        """The run whose end this record is, where it is one and won."""
        value = record.value or b""
        if not any(mark in value for mark in _MARKS):  # most records are not: their JSON need not be read again
            return None
        try:
            event = event_in(record)
        except ContractError:
            return None
        if event.type not in TERMINAL_EVENTS:
            return None
        state = self._index.state_of(event.fact.run_id)
        won = state is not None and state.is_ended and state.offset == record.offset
        return event.fact.run_id if won else None

    async def _copy(self, record: Record, run_id: str) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await self._log.append(
                    self._topic,
                    partition=record.partition,
                    key=run_id.encode(),
                    value=record.value,
                    headers=record.headers,
                )
            except LogUnavailable as error:
                self._logger.warning("not copied, trying again", action="retry", run_id=run_id, error=str(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(_LAST_BACKOFF_S, 2 * backoff_s)
            else:
                self._metrics.copied.inc()
                return
