"""States, counts and offsets are stored together: a restart, wherever it falls, counts exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.schemas import histories as h
from trainyard_runtime.kafka.records import Record
from trainyard_runtime.projection import Projection, ProjectionUnavailable
from trainyard_schemas.events import Fact, encode_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_schemas.vocabulary import EventType
from trainyard_stats.run_metrics import Tally
from trainyard_stats.run_tally import ENDED, OPEN, RunTally

TOPIC = "t.runs.lifecycle"
PARTITION = partition_of(h.RUN, RUN_PARTITIONS)
FACTS: tuple[Fact, ...] = (
    h.accepted(),
    h.dispatched(1),
    h.started(1),
    h.lost(1),
    h.dispatched(2),
    h.started(2),
    h.succeeded(2),
    h.ended(EventType.RUN_COMPLETED, 2),
)

ATTEMPTS = {("attempt_lost", "sklearn", "worker_lost"): 1, ("attempt_succeeded", "sklearn", ""): 1}


def records(facts: Sequence[Fact], start: int = 0) -> list[Record]:
    found = []
    for offset, fact in enumerate(facts, start=start):
        value, headers = encode_event(h.event(fact, now=float(offset)))
        found.append(Record(TOPIC, PARTITION, offset, 0, fact.run_id.encode(), value, tuple(headers)))
    return found


def opened(folder: Path) -> Projection:
    return Projection(folder / "stats.sqlite", identity="test")


def test_a_restart_after_any_record_counts_like_no_restart(tmp_path: Path) -> None:
    log = records(FACTS)

    async def counted(folder: Path, restart_after: int) -> bytes:
        for part in (log[:restart_after], log):  # the second reads again from the start, as a redelivery would
            projection = opened(folder)
            tally = RunTally(projection, TOPIC)
            tally.load({PARTITION: 0}, {PARTITION: len(log)})
            tally.fold(PARTITION, part)
            await tally.flush()
            projection.close()
        return tally.tally.encode()

    results = {asyncio.run(counted(tmp_path / str(cut), cut)) for cut in range(len(log) + 1)}
    assert len(results) == 1
    assert Tally.decode(results.pop()).attempts == ATTEMPTS


def test_what_was_not_flushed_is_counted_again_and_only_once(tmp_path: Path) -> None:
    log = records(FACTS)

    async def story() -> dict[tuple[str, str, str], int]:
        projection = opened(tmp_path)
        tally = RunTally(projection, TOPIC)
        tally.load({PARTITION: 0}, {PARTITION: len(log)})
        tally.fold(PARTITION, log[:3])
        await tally.flush()
        tally.fold(PARTITION, log[3:])  # folded, and the process dies before it is stored
        projection.close()
        projection = opened(tmp_path)
        again = RunTally(projection, TOPIC)
        again.load({PARTITION: 0}, {PARTITION: len(log)})
        assert again.next_offsets == {PARTITION: 3}
        again.fold(PARTITION, log[3:])
        await again.flush()
        assert (projection.count(OPEN), projection.count(ENDED)) == (0, 1)
        projection.close()
        return dict(again.tally.ended)

    assert asyncio.run(story()) == {("completed", "sklearn", ""): 1}


def test_a_late_record_of_an_ended_run_meets_its_state(tmp_path: Path) -> None:
    projection = opened(tmp_path)
    tally = RunTally(projection, TOPIC)
    tally.load({PARTITION: 0}, {PARTITION: 100})
    tally.fold(PARTITION, records(FACTS))
    asyncio.run(tally.flush())
    tally.fold(PARTITION, records([h.accepted(), h.succeeded(2), h.ended(EventType.RUN_FAILED)], start=50))
    assert tally.tally.records["duplicate"] == 1
    assert tally.tally.records["ended"] == 2
    assert tally.tally.ended.total() == 1
    assert tally.tally.attempts == ATTEMPTS
    projection.close()


def test_a_record_that_is_no_event_is_counted_and_passed_over(tmp_path: Path) -> None:
    projection = opened(tmp_path)
    tally = RunTally(projection, TOPIC)
    tally.load({PARTITION: 0}, {PARTITION: 100})
    bad = [
        Record(TOPIC, PARTITION, offset, 0, None, value)
        for offset, value in enumerate((None, b"", b"\xff", b"{}", b"[1]"))
    ]
    tally.fold(PARTITION, [*bad, *records(FACTS, start=5)])
    assert tally.tally.records["unreadable"] == 5
    assert tally.tally.ended.total() == 1
    projection.close()


def test_a_log_that_was_created_again_is_counted_from_its_start(tmp_path: Path) -> None:
    projection = opened(tmp_path)
    tally = RunTally(projection, TOPIC)
    tally.load({PARTITION: 0}, {PARTITION: 100})
    tally.fold(PARTITION, records(FACTS))
    asyncio.run(tally.flush())
    again = RunTally(projection, TOPIC)
    assert again.load({PARTITION: 0}, {PARTITION: 2}) == 0
    assert again.next_offsets == {PARTITION: 0}
    assert again.tally.ended.total() == 0
    projection.close()


def test_what_retention_deleted_before_it_was_counted_is_reported(tmp_path: Path) -> None:
    projection = opened(tmp_path)
    tally = RunTally(projection, TOPIC)
    tally.load({PARTITION: 0}, {PARTITION: 100})
    tally.fold(PARTITION, records(FACTS))
    asyncio.run(tally.flush())
    again = RunTally(projection, TOPIC)
    assert again.load({PARTITION: 20}, {PARTITION: 100}) == 12
    assert again.next_offsets == {PARTITION: 20}
    assert again.tally.ended.total() == 1
    projection.close()


def test_a_file_that_cannot_be_written_stops_the_count(tmp_path: Path) -> None:
    projection = opened(tmp_path)
    tally = RunTally(projection, TOPIC)
    tally.load({PARTITION: 0}, {PARTITION: 100})
    tally.fold(PARTITION, records(FACTS))
    projection.close()
    with pytest.raises(ProjectionUnavailable):
        asyncio.run(tally.flush())
