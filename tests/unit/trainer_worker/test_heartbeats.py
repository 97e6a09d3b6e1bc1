"""Heartbeats end when they are told to, whatever comes at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.trainer_worker_protocol.world import RUN_ID, World, marked
from trainyard_schemas.events import Event
from trainyard_trainer_worker.heartbeats import AT_MOST_EVERY_S, Heartbeats
from trainyard_trainer_worker.ports import Job


@pytest.mark.parametrize("turns", range(4))
def test_an_end_that_comes_with_news_is_not_lost(turns: int) -> None:
    job = Job(RUN_ID, 1, "claim-0001", marked(), "cpu", {}, 0.0, 0.0, 60.0, 60.0)
    sent: list[Event] = []

    async def send(beat: Event) -> None:
        sent.append(beat)

    async def scenario() -> None:
        beats = Heartbeats(job, World().worker, send)
        beats.start()
        async with asyncio.timeout(30):
            while not sent:  # noqa: ASYNC110 - it waits for another task
                await asyncio.sleep(0.01)
            await asyncio.sleep(AT_MOST_EVERY_S + 0.1)  # until it waits for news; earlier would be no harder
            beats.publishing()
            for _ in range(turns):
                await asyncio.sleep(0)
            await beats.stop()

    asyncio.run(scenario())
