"""The broker is away for longer than the lease and the silence that makes a worker lost: nobody is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.faults.survival.broker_away import absence
from tests.faults.survival.conftest import LEASE_S, QUICK
from tests.timing import in_time


@pytest.mark.timed
@pytest.mark.patient
@pytest.mark.slow
@pytest.mark.parametrize("paused", [False, True], ids=["ended", "paused"])
def test_a_broker_that_is_away_in_mid_training_freezes_it_and_the_run_completes_in_its_first_attempt(
    clearml_server: ClearMLServer, tmp_path: Path, paused: bool
) -> None:
    seen = absence(clearml_server, tmp_path, away_s=20, budget_s=12, paused=paused, environment=QUICK)
    assert (seen.attempt, seen.lost) == (1, 0)
    in_time(LEASE_S + 2, seen.frozen_after_s)
    assert seen.computed_s == 0
