"""Twenty thousand seeds on two processors: every promise kept, every fault met, and in time for each change."""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from multiprocessing import get_context
from statistics import mean, median

import pytest

from tests.timing import in_time
from trainyard_simulation.campaign import Report, run_campaign
from trainyard_simulation.coverage import never_met

pytestmark = pytest.mark.timed

JOBS = 2
WITHIN_S = 120.0
ROUNDS = 60_000
ROUNDS_S = 0.5
"""How long so many rounds take on the slowest processors for which the two minutes are promised; there the seeds take
80 s. Where the rounds take longer the seeds may take longer as well, by as much."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something small that is copied, ordered and written, as the simulation does all the time."""

    at: int
    name: str
    phase: str = "accepted"
    worker: str | None = None
    results: tuple[int, ...] = ()


def rounds(_: int) -> float:
    """How many seconds `ROUNDS` rounds take here, the middle of five."""
    took_s = []
    for _ in range(5):
        began = time.perf_counter()
        heap: list[tuple[int, int, Moment]] = []
        for number in range(ROUNDS):
            moment = replace(Moment(number, f"run-{number}"), phase="started", results=(number,))
            heappush(heap, (number * 7919 % 1009, number, moment))
            if len(heap) > 50:
                _, _, moment = heappop(heap)
                json.loads(json.dumps({"at": moment.at, "name": moment.name, "results": moment.results}))
        took_s.append(time.perf_counter() - began)
    return median(took_s)


def rounds_s() -> float:
    """How many seconds `ROUNDS` rounds take when as many processes are at work as the seeds have."""
    with ProcessPoolExecutor(JOBS, mp_context=get_context("spawn")) as pool:
        return mean(pool.map(rounds, range(JOBS)))


@pytest.fixture(scope="module")
def campaign() -> tuple[Report, float]:
    """What was found, and within how many seconds it was to be found."""
    before_s = rounds_s()
    report = run_campaign(1, 20_000, jobs=JOBS)
    slowness = mean((before_s, rounds_s())) / ROUNDS_S
    return report, WITHIN_S * max(1.0, slowness)


def test_twenty_thousand_seeds_keep_every_promise_within_two_minutes(campaign: tuple[Report, float]) -> None:
    report, within_s = campaign
    assert report.failures == []
    assert report.seeds == 20_000
    in_time(within_s, report.seconds)


def test_twenty_thousand_seeds_meet_every_fault_at_every_effect_and_every_window(
    campaign: tuple[Report, float],
) -> None:
    assert never_met(campaign[0].coverage) == []
