"""A command may wait a little for its run, and many that wait do not add up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.dispatcher.runs import accepted
from trainyard_dispatcher.command_loop import PATIENCE_S, Commands
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_runtime.kafka.records import Record

BATCH = 4
LATER_S = 100.0
CANCEL = {"command": "cancel", "actor": "alice", "message": "wrong data"}


class Knowing:
    """An index that has just heard of one run and never hears of another, and the log that takes the answers: more time
    passes with each than any command waits."""

    def __init__(self, known: str) -> None:
        self.known = known
        self.now = 0.0
        self.asked: list[str] = []
        self.answered: list[str] = []

    async def reached(self, ends: Mapping[int, int]) -> None:
        pass

    async def knows(self, run_id: str) -> None:
        self.asked.append(run_id)
        if run_id != self.known:
            await asyncio.Event().wait()

    def state_of(self, run_id: str) -> None:
        return None

    async def append_dead_letter(self, run_id: str, letter: Any, *, of_commands: bool) -> None:
        assert of_commands
        self.answered.append(run_id)
        self.now += LATER_S


@pytest.mark.parametrize("ahead_s", [0.0, 600.0], ids=["in step", "ahead"])
def test_commands_of_unknown_runs_wait_together_whatever_their_clock_says(ahead_s: float) -> None:
    run_ids = [accepted(str(number)).run_id for number in range(BATCH)]
    world, committed = Knowing(run_ids[0]), []

    async def ends() -> Mapping[int, int]:
        return {}

    async def commit(offsets: Mapping[tuple[str, int], int]) -> bool:
        committed.append(offsets)
        return True

    async def scenario() -> None:
        commands = Commands(world, world, DispatcherMetrics(), ends=ends, now=lambda: world.now)  # type: ignore[arg-type]
        bodies = [json.dumps({**CANCEL, "run_id": run_id}).encode() for run_id in run_ids]
        records = [Record("c", 0, at, int(ahead_s * 1000), None, body) for at, body in enumerate(bodies)]
        async with asyncio.timeout(PATIENCE_S):
            await commands.handle(records, commit)

    asyncio.run(scenario())
    assert world.asked == world.answered == run_ids
    assert committed == [{("c", 0): BATCH}]
