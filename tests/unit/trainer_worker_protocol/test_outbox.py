"""The durable outbox, and outcomes that go through it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.unit.trainer_worker_protocol.world import RUN_ID, FakePatience
from trainyard_runtime.kafka.records import AppendUnknown, LogRefused, LogUnavailable, RecordHeaders
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.outbox import Outbox, OutboxUnavailable
from trainyard_schemas.events import AttemptFailed, Event, make_event
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.outcomes import Outcomes
from trainyard_trainer_worker.ports import Ending

KAFKA = KafkaSettings(bootstrap="127.0.0.1:1")


class Writer:
    """Raises the given errors first, one an append; then takes records."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.taken: list[bytes | None] = []

    async def append(
        self, topic: str, *, partition: int, key: bytes | None, value: bytes | None, headers: RecordHeaders = ()
    ) -> int:
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append(value)
        return len(self.taken) - 1


def outcome() -> Event:
    fact = AttemptFailed(run_id=RUN_ID, attempt=1, task_id="t", claim="claim-0001", reason=Reason.INTERNAL)
    return make_event(fact, source="s", writer="w", now=0.0)


def outcomes(writer: Writer, outbox: Outbox | None, patience: FakePatience | None = None) -> Outcomes:
    return Outcomes(KAFKA, writer, outbox, patience or FakePatience())  # type: ignore[arg-type]


def fill(outbox: Outbox) -> None:
    for _ in range(10_000):
        outbox.put("t", partition=0, key=None, value=b"x" * 4_000)


def test_what_was_put_is_there_after_a_restart_oldest_first_byte_for_byte(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.sqlite") as outbox:
        outbox.put("t", partition=3, key=b"k", value=b"\x00one", headers=[("h", b"\xff"), ("h", b"")])
        outbox.put("t", partition=4, key=None, value=b"two")
    with Outbox(tmp_path / "o.sqlite") as outbox:
        first, second = outbox.pending()
        assert (first.topic, first.partition, first.key, first.value) == ("t", 3, b"k", b"\x00one")
        assert first.headers == (("h", b"\xff"), ("h", b""))
        assert (second.key, second.value) == (None, b"two")
        outbox.done(first.seq)
        assert [entry.seq for entry in outbox.pending()] == [second.seq]
        assert len(outbox) == 1


def test_every_put_is_synced_to_disk(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.sqlite") as outbox:
        mode = outbox._db.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = outbox._db.execute("PRAGMA synchronous").fetchone()[0]
    assert (mode, synchronous) == ("wal", 2)


def test_a_file_that_is_no_outbox_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    path.write_text("this is no database, and it is long enough to be read as one" * 20)
    with pytest.raises(OutboxUnavailable, match=r"o\.sqlite"):
        Outbox(path)


def test_an_outcome_is_kept_until_it_is_settled(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.sqlite") as outbox:
        writer = Writer(AppendUnknown("lost"), LogUnavailable("away"))
        sender = outcomes(writer, outbox)
        asyncio.run(sender.deliver(outcome()))
        assert len(writer.taken) == 1
        assert sender.depth == 0
        assert len(outbox) == 1
        sender.settle()
        assert len(outbox) == 0


def test_an_outcome_that_the_end_of_the_process_cut_off_is_sent_by_the_next_one(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.sqlite") as outbox:
        sender = outcomes(Writer(LogUnavailable("away")), outbox, FakePatience(ends_at=1))
        with pytest.raises(Ending):
            asyncio.run(sender.deliver(outcome()))
        assert sender.depth == 1
    with Outbox(tmp_path / "o.sqlite") as outbox:
        writer = Writer()
        sender = outcomes(writer, outbox)
        replayed = asyncio.run(sender.replay())
        assert [event.id for event in replayed] == [outcome().id]
        assert len(writer.taken) == 1
        assert len(outbox) == 1
        sender.settle()
        assert outbox.pending() == []


def test_a_full_disk_does_not_keep_an_outcome_from_being_sent(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.sqlite") as outbox:
        pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
        outbox._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(OutboxUnavailable, match="full"):
            fill(outbox)
        writer = Writer()
        asyncio.run(outcomes(writer, outbox).deliver(outcome()))
        assert len(writer.taken) == 1


def test_a_record_that_the_broker_refuses_is_not_sent_for_ever(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.sqlite") as outbox:
        sender = outcomes(Writer(LogRefused("too large")), outbox)
        asyncio.run(sender.deliver(outcome()))
        sender.settle()
        assert len(outbox) == 0


def test_without_a_state_folder_outcomes_are_sent_and_not_kept() -> None:
    writer = Writer()
    sender = outcomes(writer, None)
    asyncio.run(sender.deliver(outcome()))
    sender.settle()
    assert len(writer.taken) == 1
    assert asyncio.run(sender.replay()) == []


def test_an_outbox_is_one_table_with_strict_types(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.sqlite") as outbox, pytest.raises(sqlite3.IntegrityError):
        outbox._db.execute("INSERT INTO outbox (topic, partition, value, headers) VALUES ('t', 'x', x'00', '[]')")
