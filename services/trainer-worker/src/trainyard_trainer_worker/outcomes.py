"""The protocol's `Outbox`: an outcome is on disk before it is sent, and sent until it is acknowledged."""

from __future__ import annotations

from trainyard_runtime.kafka.async_log import LogWriter
from trainyard_runtime.kafka.records import LogRefused, LogUnavailable
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_runtime.outbox import Outbox, OutboxUnavailable
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import Event, decode_event, encode_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_trainer_worker.ports import Patience


class Outcomes:
    """Delivers outcomes; `replay` sends what an earlier process of this worker left behind."""

    def __init__(self, settings: KafkaSettings, writer: LogWriter, outbox: Outbox | None, patience: Patience) -> None:
        """`outbox` None: nothing is kept between starts."""
        self._topic = settings.topic(TopicName.RUNS_LIFECYCLE)
        self._writer = writer
        self._outbox = outbox
        self._patience = patience
        self._undelivered = 0
        self._delivered: list[int] = []
        self._log = get_logger(component="outbox")

    @property
    def depth(self) -> int:
        """How many outcomes wait for their acknowledgement."""
        return self._undelivered

    async def deliver(self, event: Event) -> None:
        """See ports.Outbox. With a full disk the outcome is sent all the same, and logged as not kept."""
        value, headers = encode_event(event)
        run_id = event.fact.run_id
        partition, key = partition_of(run_id, RUN_PARTITIONS), run_id.encode()
        seq: int | None = None
        if self._outbox is not None:
            try:
                seq = self._outbox.put(self._topic, partition=partition, key=key, value=value, headers=headers)
            except OutboxUnavailable as problem:
                self._log.error("outcome not kept on disk", action="keep", run_id=run_id, error=str(problem))
        self._undelivered += 1
        await self._append(self._topic, partition, key, value, tuple(headers))
        self._undelivered -= 1
        if seq is not None:
            self._delivered.append(seq)

    def settle(self) -> None:
        """Forget what is delivered: ClearML knows it too now. What is not settled is sent, and told, again."""
        while self._delivered:
            self._forget(self._delivered.pop())

    async def replay(self) -> list[Event]:
        """Send what waits, oldest first; returns the outcomes that are now in the log, for ClearML. Raises Ending.

        The fold ignores what it has already, or what the log has moved past.
        """
        if self._outbox is None:
            return []
        entries = self._outbox.pending()
        self._undelivered += len(entries)
        sent: list[Event] = []
        for entry in entries:
            await self._append(entry.topic, entry.partition, entry.key, entry.value, entry.headers)
            self._undelivered -= 1
            self._delivered.append(entry.seq)
            try:
                event = decode_event(entry.value, entry.headers)
            except ContractError as problem:
                self._log.error("unreadable outcome sent", action="replay", error=str(problem))
                continue
            self._log.info("outcome of an earlier process sent", action="replay", run_id=event.fact.run_id)
            sent.append(event)
        return sent

    async def _append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes,
        headers: tuple[tuple[str, bytes], ...],
    ) -> None:
        tries = 0
        while True:
            try:
                await self._writer.append(topic, partition=partition, key=key, value=value, headers=headers)
            except LogUnavailable as problem:
                tries += 1
                self._log.warning("outcome not delivered yet", action="deliver", tries=tries, error=str(problem))
                await self._patience.wait(tries)
            except LogRefused as problem:
                # Results are bounded far below any sane limit (results.py): sending it again would fail for ever.
                self._log.error("outcome refused by the broker", action="deliver", error=str(problem))
                return
            else:
                return

    def _forget(self, seq: int) -> None:
        if self._outbox is None:
            return
        try:
            self._outbox.done(seq)
        except OutboxUnavailable as problem:
            self._log.warning("outcome will be sent again", action="forget", error=str(problem))
