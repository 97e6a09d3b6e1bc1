"""A consumer that stands still behind the log's end ends the process; one that moves or whose log is away does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_dispatcher.standstill import StandstillError, StandstillWatch
from trainyard_runtime.kafka.progress import Place
from trainyard_runtime.kafka.records import LogUnavailable

STANDSTILL_S = 0.2
QUESTIONS = 60


class Log:
    """A log of one partition that grows by a record at each question, and a consumer of it."""

    def __init__(self, *, moves: bool, answers: bool = True) -> None:
        self.end = 10
        self.moves = moves
        self.answers = answers
        self.questions = 0
        self.asked_enough = asyncio.Event()

    async def stable_offsets(self, topic: str) -> Mapping[int, int]:
        assert topic == "runs"
        self.questions += 1
        if self.questions >= QUESTIONS:
            self.asked_enough.set()
        if not self.answers:
            raise LogUnavailable("away")
        self.end += 1
        return {0: self.end}

    async def positions(self) -> Mapping[Place, int]:
        return {("runs", 0): self.end - 1 if self.moves else 7}


async def watched(log: Log, metrics: DispatcherMetrics) -> None:
    """Until it raises, or enough questions have been asked."""
    watch = StandstillWatch({"intake": ("runs", log.positions)}, log, metrics, every_s=0.02, standstill_s=STANDSTILL_S)
    running, asking = asyncio.create_task(watch.run()), asyncio.create_task(log.asked_enough.wait())
    await asyncio.wait([running, asking], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    running.cancel()
    asking.cancel()


def test_a_consumer_that_stands_still_behind_the_end_is_named() -> None:
    metrics = DispatcherMetrics()
    with pytest.raises(StandstillError, match=r"intake has stood still for 0.2 s, behind in \[\('runs', 0\)\]"):
        asyncio.run(watched(Log(moves=False), metrics))
    assert b'consumer="intake"' in metrics.text()


@pytest.mark.parametrize("log", [Log(moves=True), Log(moves=False, answers=False)], ids=["moves", "log-away"])
def test_a_consumer_that_moves_or_whose_log_is_away_is_left_alone(log: Log) -> None:
    asyncio.run(watched(log, DispatcherMetrics()))
    assert log.questions == QUESTIONS
