"""Listens to `runs.heartbeats` for the vigil, and proves again and again that it has read them to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from trainyard_dispatcher.vigil import Vigil
from trainyard_runtime.kafka.async_log import LogReader, tail
from trainyard_runtime.kafka.facts import event_in
from trainyard_runtime.kafka.records import LogError, LogUnavailable, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import AttemptHeartbeat
from trainyard_schemas.topics import TopicName

PROVE_EVERY_S: Final = 2.0
_RETRY_S: Final = 1.0


class HeartbeatWatch:
    """One process's ear. `run` never returns."""

    def __init__(self, kafka: KafkaSettings, reader: LogReader, vigil: Vigil, steady: Callable[[], float]) -> None:
        self._kafka = kafka
        self._reader = reader
        self._vigil = vigil
        self._steady = steady
        self._topic = kafka.topic(TopicName.RUNS_HEARTBEATS)
        self._next: dict[int, int] | None = None
        self._log = get_logger(component="heartbeat_watch")

    async def run(self) -> None:
        """Listen and prove until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._prove())

    async def _listen(self) -> None:
        while True:
            self._next = None
            ready = asyncio.Event()
            starting = asyncio.create_task(self._note_start(ready))
            try:
                async for records in tail(
                    self._kafka, [self._topic], client_id="trainyard-dispatcher-heartbeats", on_ready=ready.set
                ):
                    for record in records:
                        self._hear(record)
            except LogUnavailable as error:
                self._log.warning("heartbeats cannot be heard", action="listen", error=str(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                starting.cancel()

    async def _note_start(self, ready: asyncio.Event) -> None:
        """Once every later record will come: what has come by then is not needed to prove that the end is reached."""
        await ready.wait()
        while self._next is None:
            try:
                self._next = dict(await self._reader.end_offsets(self._topic))
            except LogError:
                await asyncio.sleep(_RETRY_S)

    def _hear(self, record: Record) -> None:
        if self._next is not None:
            self._next[record.partition] = max(self._next.get(record.partition, 0), record.offset + 1)
        try:
            fact = event_in(record).fact
        except ContractError:
            return
        if isinstance(fact, AttemptHeartbeat):
            self._vigil.heard(fact.claim, self._steady())

    async def _prove(self) -> None:
        """Ask for the topic's ends; where all that stands before them was heard, that is a proof as of the asking."""
        while True:
            await asyncio.sleep(PROVE_EVERY_S)
            sent_at = self._steady()
            try:
                ends = await self._reader.end_offsets(self._topic)
            except LogError:
                continue
            for _ in range(10):
                if self._has_heard(ends):
                    self._vigil.read_to_end(sent_at)
                    break
                await asyncio.sleep(PROVE_EVERY_S / 20)

    def _has_heard(self, ends: dict[int, int]) -> bool:
        heard = self._next
        return heard is not None and all(heard.get(p, 0) >= end for p, end in ends.items())
