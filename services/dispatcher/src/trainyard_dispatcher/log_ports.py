"""The executor's ledger and dead letters over the Kafka log, and the one way in which intake appends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainyard_dispatcher.intake import OMITTED_HEADER, DeadLetter, dead_letter
from trainyard_dispatcher.ports import NotDone, OutcomeUnknown
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.records import AppendUnknown, LogRefused, LogUnavailable, OffsetGone, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_schemas.events import Fact, OriginRecord, encode_event, make_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName

SOURCE = "trainyard/dispatcher"
GONE_HEADER = ("trainyard-omitted", b"the record is not at its origin any more")


class LifecycleLog:
    """Appends facts and dead letters, each to its run's partition.

    `writer` names this incarnation of the process; `now` is wall-clock seconds.
    """

    def __init__(self, log: LogWriter, kafka: KafkaSettings, writer: str, now: Callable[[], float]) -> None:
        self._log = log
        self._lifecycle = kafka.topic(TopicName.RUNS_LIFECYCLE)
        self._dead_letters = kafka.topic(TopicName.RUNS_REQUESTED_DEAD_LETTER)
        self._dead_commands = kafka.topic(TopicName.RUNS_COMMANDS_DEAD_LETTER)
        self._writer = writer
        self._now = now

    async def append_fact(self, fact: Fact) -> int:
        """Append a fact under its natural id; its offset. Raises LogUnavailable, AppendUnknown, LogRefused."""
        value, headers = encode_event(make_event(fact, source=SOURCE, writer=self._writer, now=self._now()))
        return await self._log.append(
            self._lifecycle,
            partition=partition_of(fact.run_id, RUN_PARTITIONS),
            key=fact.run_id.encode(),
            value=value,
            headers=headers,
        )

    async def append_dead_letter(self, run_id: str, letter: DeadLetter, *, of_commands: bool = False) -> None:
        """Keep a refused record; one that no topic can hold is kept without its bytes, which its origin still has."""
        topic = self._dead_commands if of_commands else self._dead_letters
        partition = partition_of(run_id, RUN_PARTITIONS)
        try:
            await self._log.append(
                topic, partition=partition, key=letter.key, value=letter.value, headers=letter.headers
            )
        except LogRefused:
            ours = tuple(h for h in letter.headers if h[0].startswith("trainyard-"))[-16:]
            await self._log.append(topic, partition=partition, key=None, value=b"", headers=(*ours, OMITTED_HEADER))


class KafkaLedger:
    """The executor's `Ledger`."""

    def __init__(self, log: LifecycleLog) -> None:
        self._log = log

    async def append(self, fact: Fact) -> None:
        """Append a fact; returns when all replicas have it."""
        try:
            await self._log.append_fact(fact)
        except AppendUnknown as error:
            raise OutcomeUnknown(str(error)) from error
        except LogUnavailable as error:
            raise NotDone(str(error)) from error
        except LogRefused as error:
            get_logger(component="ledger", run_id=fact.run_id).error("fact refused by the log", error=str(error))
            raise NotDone(str(error)) from error


class KafkaDeadLetters:
    """The executor's `DeadLetters`: reads the record again where it stood and keeps it."""

    def __init__(self, log: LifecycleLog, reader: LogReader) -> None:
        self._log = log
        self._reader = reader

    async def put(self, origin: OriginRecord, run_id: str, reason: str, detail: str, message: str) -> None:
        """Keep the record at `origin` byte for byte; where retention was faster, only why and whence."""
        try:
            try:
                record = await self._reader.read_at(origin.topic, origin.partition, origin.offset)
                letter = dead_letter(record, run_id, reason, detail, message)
            except OffsetGone:
                gone = Record(origin.topic, origin.partition, origin.offset, origin.timestamp_ms, None, b"", ())
                letter = dead_letter(gone, run_id, reason, detail, message)
                letter = replace(letter, headers=(*letter.headers, GONE_HEADER))
            await self._log.append_dead_letter(run_id, letter)
        except AppendUnknown as error:
            raise OutcomeUnknown(str(error)) from error
        except (LogUnavailable, LogRefused) as error:
            raise NotDone(str(error)) from error
