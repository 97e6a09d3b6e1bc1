"""The index of runs: a fold that survives restarts, and hands conflicts over until they are answered."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainyard_dispatcher.intake import answer
from trainyard_dispatcher.run_ends import conflict_answer
from trainyard_dispatcher.run_index import RunIndex
from trainyard_dispatcher.state_codec import decode_state, encode_state
from trainyard_runtime.kafka.records import Record
from trainyard_runtime.projection import Projection
from trainyard_schemas import events as ev
from trainyard_schemas.ids import partition_of
from trainyard_schemas.lifecycle import RunState, Verdict
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_schemas.vocabulary import Reason, RunPhase

TOPIC = "t.runs.lifecycle"
REQUESTS = "t.runs.requested"
NOW = 1_000.0
PARTITION = 0


class Log:
    """The lifecycle as records, each run's in its partition; what is of no run lies in `PARTITION`."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, fact: ev.Fact) -> Record:
        value, headers = ev.encode_event(ev.make_event(fact, source="s", writer="w", now=NOW))
        partition = partition_of(fact.run_id, RUN_PARTITIONS)
        return self.add_raw(value, tuple(headers), key=fact.run_id.encode(), partition=partition)

    def add_raw(
        self,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...] = (),
        key: bytes | None = None,
        partition: int = PARTITION,
    ) -> Record:
        record = Record(TOPIC, partition, self.ends().get(partition, 0), int(NOW * 1000), key, value, headers)
        self.records.append(record)
        return record

    def ends(self) -> dict[int, int]:
        return {PARTITION: 0, **Counter(record.partition for record in self.records)}


def accepted(offset: int = 0, **changes: Any) -> ev.RunAccepted:
    """A run of `PARTITION`: the first of a few tenants whose run lies there has asked for it."""
    body = {
        "schema_version": 2,
        "trainer": "sklearn",
        "dataset": {"type": "tabular", "uri": "wine.csv", "label": "class"},
        "task_type": "classification",
    } | changes
    record = Record(REQUESTS, 1, offset, 5, None, json.dumps(body).encode())
    for number in range(1_000):
        found = answer(record, f"tenant-{number}").fact
        assert isinstance(found, ev.RunAccepted)
        if partition_of(found.run_id, RUN_PARTITIONS) == PARTITION:
            return found
    raise AssertionError("no tenant's run lies there")


@pytest.fixture
def open_index(tmp_path: Path) -> Callable[..., RunIndex]:
    def opened(log: Log, *, identity: str = "one") -> RunIndex:
        index = RunIndex(Projection(tmp_path / "p.sqlite", identity=identity), TOPIC, requests=REQUESTS)
        index.load(dict.fromkeys(log.ends(), 0), log.ends())
        return index

    return opened


def _fields(run_id: str, **changes: Any) -> dict[str, Any]:
    return {"run_id": run_id, "attempt": 1, "task_id": "t1"} | changes


def test_a_restart_goes_on_where_the_stored_state_ends(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    run = accepted(idempotency_key="a")
    log.add(run)
    log.add(ev.AttemptDispatched.model_validate(_fields(run.run_id, queue="cpu", queue_id="q1")))
    index = open_index(log)
    index.fold(log.records)
    asyncio.run(index.flush())
    log.add(ev.AttemptQueued.model_validate(_fields(run.run_id, queue="cpu")))
    unstored = index.states[run.run_id]

    again = open_index(log)
    assert again.next_offsets == {PARTITION: 2}
    assert again.states == {run.run_id: unstored}
    again.fold(log.records)
    assert again.verdicts == {Verdict.NOTED: 1}
    assert again.states[run.run_id].queued_at == NOW


def test_what_was_folded_but_not_stored_is_folded_again(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    run = accepted(idempotency_key="a")
    log.add(run)
    open_index(log).fold(log.records)
    again = open_index(log)
    assert (again.next_offsets, again.states) == ({PARTITION: 0}, {})
    again.fold(log.records)
    assert again.states[run.run_id].phase is RunPhase.ACCEPTED


def test_replay_gives_the_same_bytes_as_the_live_projection(tmp_path: Path) -> None:
    log = Log()
    for number in range(20):
        run = accepted(offset=number)
        log.add(run)
        log.add(ev.AttemptDispatched.model_validate(_fields(run.run_id, queue="cpu", queue_id="q1")))
        if number % 2:
            log.add(ev.AttemptFailed.model_validate(_fields(run.run_id, reason=Reason.INTERNAL, detail="x")))

    def stored(name: str, batch: int) -> list[tuple[str, bytes]]:
        projection = Projection(tmp_path / name, identity="one")
        index = RunIndex(projection, TOPIC, requests=REQUESTS)
        index.load(dict.fromkeys(log.ends(), 0), log.ends())
        for start in range(0, len(log.records), batch):
            index.fold(log.records[start : start + batch])
            asyncio.run(index.flush())
        found = [*projection.entries("open"), *projection.entries("ended")]
        projection.close()
        return found

    assert stored("live", 3) == stored("replay", 1_000)
    assert len(stored("once more", 7)) == 20


def test_a_late_record_of_a_run_that_left_memory_meets_its_state(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    run = accepted(idempotency_key="a")
    log.add(run)
    log.add(ev.AttemptDispatched.model_validate(_fields(run.run_id, queue="cpu", queue_id="q1")))
    log.add(ev.AttemptCancelled.model_validate(_fields(run.run_id)))
    end = {
        "run_id": run.run_id,
        "run_name": "abc",
        "project": "p",
        "trainer": "t",
        "attempt": 1,
        "accepted_at": "",
        "ended_at": "",
    }
    log.add(ev.RunCancelled.model_validate(end | {"reason": Reason.USER}))
    index = open_index(log)
    index.fold(log.records)
    assert run.run_id not in index.states
    before_the_flush = index.state_of(run.run_id)
    asyncio.run(index.flush())
    assert index.state_of(run.run_id) == before_the_flush

    index.fold([log.add(accepted(idempotency_key="a"))])
    index.fold([log.add(ev.RunFailed.model_validate(end | {"reason": Reason.INTERNAL}))])
    assert (index.verdicts[Verdict.DUPLICATE], index.verdicts[Verdict.ENDED]) == (1, 1)
    assert run.run_id not in index.states


def test_a_run_is_waited_for_until_the_log_tells_of_it(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    run = accepted(idempotency_key="a")
    index = open_index(log)

    async def scenario() -> None:
        waiting = asyncio.create_task(index.knows(run.run_id))
        await asyncio.sleep(0)
        index.fold([log.add(accepted(offset=1, idempotency_key="other"))])
        await asyncio.sleep(0)
        assert not waiting.done()
        index.fold([log.add(run)])
        async with asyncio.timeout(5):
            await waiting

    asyncio.run(scenario())


def test_a_conflict_waits_for_its_answer_over_a_restart(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    log.add(accepted(idempotency_key="a"))
    losing = accepted(offset=9, idempotency_key="a", priority=9)
    log.add(losing)
    index = open_index(log)
    index.fold(log.records)
    reply = conflict_answer(losing)
    assert index.conflicts == {reply.run_id: losing}
    asyncio.run(index.flush())

    again = open_index(log)
    assert again.conflicts == {reply.run_id: losing}
    again.fold([log.add(reply)])
    assert again.conflicts == {}
    asyncio.run(again.flush())
    assert open_index(log).conflicts == {}
    again.fold([log.add(losing)])
    assert again.conflicts == {}


def test_a_record_that_is_no_event_of_ours_is_counted_and_passed_over(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    for value in (None, b"", b"nonsense", b'{"specversion":"1.0"}'):
        log.add_raw(value, (("h", b"\xff"),))
    run = accepted()
    log.add(run)
    index = open_index(log)
    index.fold(log.records)
    assert index.unreadable == 4
    assert list(index.states) == [run.run_id]
    assert index.has_reached({PARTITION: 5})
    assert not index.has_reached({PARTITION: 6})


def test_a_forged_acceptance_that_conflicts_is_passed_over(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    run = accepted(idempotency_key="a")
    log.add(run)
    log.add(run.model_copy(update={"request": {"run_name": 5}, "request_digest": "another"}))
    index = open_index(log)
    index.fold(log.records)
    assert index.unreadable == 1
    assert list(index.states) == [run.run_id]
    assert not index.conflicts


def test_a_projection_of_another_topic_or_ahead_of_the_log_starts_over(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    log.add(accepted())
    index = open_index(log)
    index.fold(log.records)
    asyncio.run(index.flush())
    assert open_index(log).next_offsets == {PARTITION: 1}
    assert open_index(Log()).next_offsets == {PARTITION: 0}
    assert open_index(log).states == {}
    index.fold([log.add(accepted(offset=1))])
    asyncio.run(index.flush())
    assert open_index(log, identity="two").next_offsets == {PARTITION: 0}


def test_waiting_for_an_offset_ends_when_it_is_folded(open_index: Callable[..., RunIndex]) -> None:
    log = Log()
    log.add(accepted())
    index = open_index(log)

    async def scenario() -> None:
        waiting = asyncio.create_task(index.reached({PARTITION: 1}))
        await asyncio.sleep(0)
        assert not waiting.done()
        index.fold(log.records)
        async with asyncio.timeout(5):
            await waiting

    asyncio.run(scenario())


def test_a_state_comes_back_from_its_bytes_as_it_was() -> None:
    state = RunState(
        run_id="r",
        phase=RunPhase.ATTEMPT_FAILED,
        accepted_offset=1,
        offset=2,
        digest="d",
        tenant="default",
        request={"a": [1, 2.5, None, "ä"]},
        accepted_at=0.1 + 0.2,
        priority=5,
        reason=Reason.WORKER_LOST,
        results={"x": {"y": 1e-300}},
        reprioritised_by=("c1", "c2"),
    )
    assert decode_state(encode_state(state)) == state
    assert encode_state(decode_state(encode_state(state))) == encode_state(state)


@pytest.mark.parametrize(
    "forged", [{"topic": "payroll"}, {"topic": TOPIC}, {"partition": 999}, {"partition": -1}, {"offset": -1}]
)
def test_a_conflict_whose_request_cannot_be_intakes_is_counted_and_never_looked_up(
    open_index: Callable[..., RunIndex], forged: dict[str, Any]
) -> None:
    log = Log()
    log.add(accepted(idempotency_key="a"))
    losing = accepted(offset=1, idempotency_key="a", trainer="flaml")
    log.add(losing.model_copy(update={"origin": losing.origin.model_copy(update=forged)}))
    index = open_index(log)
    index.fold(log.records)
    assert index.conflicts == {}
    assert (index.verdicts[Verdict.CONFLICT], index.foreign_conflicts) == (1, 1)
    log.add(losing)
    index.fold(log.records)
    assert list(index.conflicts.values()) == [losing]
