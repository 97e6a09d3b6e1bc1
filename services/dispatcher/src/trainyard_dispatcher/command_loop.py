"""Commands: from a batch of orders to durable facts about their runs, then the commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from trainyard_dispatcher.command_intake import Obey, Refuse, answer_command, command_of
from trainyard_dispatcher.intake_loop import Commit
from trainyard_dispatcher.log_ports import LifecycleLog
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_dispatcher.run_index import RunIndex
from trainyard_runtime.kafka.records import LogError, LogRefused, LogUnavailable, Record
from trainyard_runtime.logs import get_logger
from trainyard_schemas.errors import ContractError

PATIENCE_S: Final = 5.0
"""How long after a command was sent its run may still be on its way through intake."""

_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 5.0


class Commands:
    """Answers batches, in the order of their partition. Guarantees: a command's offset is committed only after its

    answer is durable; what Kafka cannot take stays in hand; a refused command never stops the next one.
    """

    def __init__(
        self,
        index: RunIndex,
        log: LifecycleLog,
        metrics: DispatcherMetrics,
        *,
        ends: Callable[[], Awaitable[Mapping[int, int]]],
        now: Callable[[], float],
    ) -> None:
        """`ends` gives the ends of `runs.lifecycle`'s partitions now; `now` is wall-clock seconds."""
        self._index = index
        self._log = log
        self._metrics = metrics
        self._ends = ends
        self._now = now
        self._logger = get_logger(component="commands")

    async def handle(self, records: Sequence[Record], commit: Commit) -> None:
        """Answer every record of the batch, then commit `{partition: offset + 1}`."""
        came_at = self._now()
        await self._catch_up()
        for record in records:
            await self._wait_for_its_run(record, came_at)
            await self._durably(record)
        ends: dict[tuple[str, int], int] = {}
        for record in records:
            ends[(record.topic, record.partition)] = record.offset + 1
        await commit(ends)

    async def _catch_up(self) -> None:
        """Fold everything that was in the log when the batch came."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                ends = await self._ends()
                break
            except LogError as error:
                self._logger.warning("the log's end is not known", action="retry", error=str(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(_LAST_BACKOFF_S, 2 * backoff_s)
        await self._index.reached(ends)

    async def _wait_for_its_run(self, record: Record, came_at: float) -> None:
        """A command may overtake its request: wait a little, counted from the command's own time or, where that is
        later, from when it came, so that many of them do not add up."""
        read = command_of(record)
        if isinstance(read, ContractError):
            return
        left_s = min(came_at, record.timestamp_ms / 1000) + PATIENCE_S - self._now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left_s)):
                await self._index.knows(read[0].run_id)

    async def _durably(self, record: Record) -> None:
        reply = answer_command(record, self._index.state_of)
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await self._append(reply)
                break
            except LogRefused as error:
                self._logger.error("answer refused by the log", action="refused", error=str(error))
                break
            except LogUnavailable as error:
                self._logger.warning("answer not appended, trying again", action="retry", error=str(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(_LAST_BACKOFF_S, 2 * backoff_s)
        outcome = "obeyed" if isinstance(reply, Obey) else reply.detail
        self._metrics.commands.labels(outcome).inc()
        run_id = reply.fact.run_id if isinstance(reply, Obey) else reply.run_id
        self._logger.info("command answered", action="command", run_id=run_id, result=outcome, offset=record.offset)

    async def _append(self, reply: Obey | Refuse) -> None:
        if isinstance(reply, Obey):
            await self._log.append_fact(reply.fact)
        else:
            await self._log.append_dead_letter(reply.run_id, reply.dead_letter, of_commands=True)
