"""A dead letter whose record cannot be kept as it was says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from trainyard_dispatcher.intake import DeadLetter
from trainyard_dispatcher.log_ports import KafkaDeadLetters, LifecycleLog
from trainyard_runtime.kafka.records import LogRefused, OffsetGone, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.events import OriginRecord

ORIGIN = OriginRecord(topic="t.runs.requested", partition=3, offset=42, timestamp_ms=7)


class Reader:
    """The log, which holds one record or none."""

    def __init__(self, record: Record | None) -> None:
        self._record = record

    async def read_at(self, topic: str, partition: int, offset: int) -> Record:
        if self._record is None:
            raise OffsetGone("it is gone")
        return self._record


class Writer:
    """A topic that takes no value longer than `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.kept: list[DeadLetter] = []

    async def append(self, topic: str, *, partition: int, key: Any, value: Any, headers: Any) -> int:
        if len(value or b"") > self._limit:
            raise LogRefused("too large")
        self.kept.append(DeadLetter(key, value, tuple(headers)))
        return len(self.kept)


def kept(record: Record | None, limit: int) -> DeadLetter:
    reader: Any = Reader(record)
    writer = Writer(limit)
    to_log: Any = writer
    log = LifecycleLog(to_log, KafkaSettings(bootstrap="localhost:9", topic_prefix="t."), "writer", lambda: 0.0)
    letters = KafkaDeadLetters(log, reader)
    asyncio.run(letters.put(ORIGIN, "0b0a3f60-0000-5000-8000-000000000000", "invalid_request", "d", "why"))
    (letter,) = writer.kept
    return letter


@pytest.mark.parametrize(
    ("value", "limit", "says"),
    [
        (None, 100, b"the record is not at its origin any more"),
        (b"x" * 101, 100, b"the record was too large for the dead-letter topic; read it at its origin"),
        (b"x" * 100, 100, None),
    ],
)
def test_what_is_left_out_is_said_beside_why_and_whence(value: bytes | None, limit: int, says: bytes | None) -> None:
    record = None if value is None else Record(ORIGIN.topic, 3, 42, 7, b"k", value, (("x", b"1"),))
    letter = kept(record, limit)
    headers = dict(letter.headers)
    assert headers.get("trainyard-omitted") == says
    assert (headers["trainyard-message"], headers["trainyard-origin-offset"]) == (b"why", b"42")
    assert letter.value == (value if says is None else b"")
