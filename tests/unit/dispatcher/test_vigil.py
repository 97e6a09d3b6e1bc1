"""Silence is counted only while it could have been broken."""

from __future__ import annotations

from tests.unit.dispatcher.runs import accepted, dispatched, started, state_after
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas import events as ev

FIRST = accepted()
RUN = FIRST.run_id
CLAIM = "claim-0001"
STARTED = state_after(FIRST, dispatched(RUN), started(RUN))
LOST = state_after(FIRST, dispatched(RUN), started(RUN), ev.AttemptLost(run_id=RUN, attempt=1))


def reading(vigil: Vigil, since: float, until: float, every_s: float = 5.0) -> None:
    at = since
    while at <= until:
        vigil.read_to_end(at)
        at += every_s


def test_silence_counts_from_the_last_beat_to_the_last_proof() -> None:
    vigil = Vigil()
    vigil.observe([STARTED], 0.0)
    reading(vigil, 0.0, 100.0)
    assert vigil.silence_s(CLAIM, 102.0) == 100.0
    vigil.heard(CLAIM, 60.0)
    assert vigil.silence_s(CLAIM, 102.0) == 40.0
    vigil.heard("another claim", 99.0)
    assert vigil.silence_s(CLAIM, 102.0) == 40.0


def test_nothing_is_silent_before_the_heartbeats_were_ever_read_or_while_they_cannot_be() -> None:
    vigil = Vigil(gap_s=30.0)
    vigil.observe([STARTED], 0.0)
    assert vigil.silence_s(CLAIM, 1_000.0) == 0.0
    reading(vigil, 0.0, 100.0)
    assert vigil.silence_s(CLAIM, 130.0) == 100.0
    assert vigil.silence_s(CLAIM, 130.1) == 0.0


def test_an_outage_restarts_the_count() -> None:
    vigil = Vigil(gap_s=30.0)
    vigil.observe([STARTED], 0.0)
    reading(vigil, 0.0, 80.0)
    reading(vigil, 140.0, 160.0)
    assert vigil.silence_s(CLAIM, 160.0) == 20.0


def test_a_worker_is_not_silent_before_this_process_read_that_it_began() -> None:
    vigil = Vigil()
    reading(vigil, 0.0, 100.0)
    assert vigil.silence_s(CLAIM, 100.0) == 0.0, "never observed"
    vigil.observe([STARTED], 90.0)
    assert vigil.silence_s(CLAIM, 100.0) == 10.0


def test_since_when_an_attempt_is_lost_is_this_process_s_own_knowledge() -> None:
    vigil = Vigil()
    assert vigil.since_lost_s(RUN, 1, 500.0) == 0.0
    vigil.observe([LOST], 500.0)
    vigil.observe([LOST], 520.0)
    assert vigil.since_lost_s(RUN, 1, 560.0) == 60.0
    assert vigil.since_lost_s(RUN, 2, 560.0) == 0.0
    vigil.observe([STARTED], 570.0)
    assert vigil.since_lost_s(RUN, 1, 600.0) == 0.0, "what is over is forgotten"
