"""Twenty thousand seeds on two processors: every promise kept, every fault met, and in time for each change."""

from __future__ import annotations

import time

import pytest

from trainyard_simulation.campaign import Report, run_campaign
from trainyard_simulation.coverage import never_met

pytestmark = pytest.mark.timed


@pytest.fixture(scope="module")
def campaign() -> tuple[Report, float]:
    """What was found, and how many seconds it took."""
    began = time.monotonic()
    report = run_campaign(1, 20_000, jobs=2)
    return report, time.monotonic() - began


def test_twenty_thousand_seeds_keep_every_promise_within_two_minutes(campaign: tuple[Report, float]) -> None:
    report, took_s = campaign
    assert report.failures == []
    assert report.seeds == 20_000
    assert took_s < 120


def test_twenty_thousand_seeds_meet_every_fault_at_every_effect_and_every_window(
    campaign: tuple[Report, float],
) -> None:
    assert never_met(campaign[0].coverage) == []
