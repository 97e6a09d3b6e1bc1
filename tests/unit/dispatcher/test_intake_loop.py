"""Intake's loop: nothing is committed before its answer is durable, and trouble stays on the batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from trainyard_dispatcher import intake_loop
from trainyard_dispatcher.intake import Answer, DeadLetter, answer
from trainyard_dispatcher.intake_loop import MAX_INTERNAL_ERRORS, Intake, TooManyInternalErrors
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_runtime.kafka.records import AppendUnknown, LogRefused, LogUnavailable, Record
from trainyard_schemas.events import Fact, RunAccepted, RunRejected


class Log:
    """A log that fails as it is told, before it takes a record."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.steps: list[tuple[str, Any]] = []

    async def append_fact(self, fact: Fact) -> int:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.steps.append((fact.type.short, fact))
        return 0

    async def append_dead_letter(self, run_id: str, letter: DeadLetter) -> None:
        self.steps.append(("dead letter", letter))

    async def commit(self, offsets: Mapping[tuple[str, int], int]) -> bool:
        self.steps.append(("commit", dict(offsets)))
        return True

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.steps]


GOOD = json.dumps(
    {
        "schema_version": 2,
        "trainer": "sklearn",
        "dataset": {"type": "tabular", "uri": "wine.csv", "label": "class"},
        "task_type": "classification",
    }
).encode()


def record(offset: int, value: bytes | None = GOOD, partition: int = 0) -> Record:
    return Record("t.runs.requested", partition, offset, 5, None, value)


def handle(log: Log, *records: Record, **options: Any) -> None:
    intake = Intake(log, "default", DispatcherMetrics(), **options)  # type: ignore[arg-type]
    asyncio.run(intake.handle(records, log.commit))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_loop, "_FIRST_BACKOFF_S", 0.001)


def test_every_answer_comes_before_the_commit_which_names_the_next_offsets() -> None:
    log = Log()
    handle(log, record(4), record(5, b"bad"), record(9, partition=3))
    assert log.names.count("run.accepted") == 2
    assert log.names.index("dead letter") < log.names.index("run.rejected")
    assert log.steps[-1] == ("commit", {("t.runs.requested", 0): 6, ("t.runs.requested", 3): 10})


@pytest.mark.parametrize("failure", [LogUnavailable("away"), AppendUnknown("lost")])
def test_a_log_that_is_away_keeps_the_batch_in_hand_until_it_is_back(failure: Exception) -> None:
    log = Log(*[failure] * 5)
    handle(log, record(0))
    assert log.names == ["run.accepted", "commit"]


def test_a_request_that_the_log_will_never_take_is_rejected_as_too_large() -> None:
    log = Log(LogRefused("too large"))
    handle(log, record(0))
    assert log.names == ["dead letter", "run.rejected", "commit"]
    fact = log.steps[1][1]
    assert isinstance(fact, RunRejected)
    assert fact.detail == "too_large"


def test_an_error_of_our_own_is_answered_and_the_next_record_goes_on() -> None:
    def failing_on_odd(asked: Record, tenant: str) -> Answer:
        if asked.offset % 2:
            raise ZeroDivisionError
        return answer(asked, tenant)

    log = Log()
    handle(log, *(record(offset) for offset in range(60)), decide=failing_on_odd)
    facts = [fact for name, fact in log.steps if name.startswith("run.")]
    assert sum(isinstance(fact, RunAccepted) for fact in facts) == 30
    assert sum(isinstance(fact, RunRejected) and fact.reason == "internal" for fact in facts) == 30
    assert log.names[-1] == "commit"


def test_twenty_errors_of_our_own_in_a_row_stop_intake_before_the_commit() -> None:
    def failing(asked: Record, tenant: str) -> Answer:
        raise ZeroDivisionError

    log = Log()
    with pytest.raises(TooManyInternalErrors):
        handle(log, *(record(offset) for offset in range(60)), decide=failing)
    assert "commit" not in log.names
    assert log.names.count("run.rejected") < MAX_INTERNAL_ERRORS
