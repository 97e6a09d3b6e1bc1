"""What is counted: runs by state, ends by reason, durations by phase; exactly, whatever the log repeats."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.schemas import histories as h
from trainyard_schemas.events import Event, Fact
from trainyard_schemas.lifecycle import RunState, Verdict, apply
from trainyard_schemas.vocabulary import EventType, Reason
from trainyard_stats.metrics import StatsMetrics
from trainyard_stats.run_metrics import BUCKETS_S, OTHER, Durations, Tally, compact, decode_state, encode_state

Record = tuple[int, Event]
COMPLETED = (
    h.accepted(),
    h.dispatched(1),
    h.queued(1),
    h.started(1),
    h.succeeded(1),
    h.ended(EventType.RUN_COMPLETED, 1),
)

ATTEMPT_ENDS = (
    EventType.ATTEMPT_SUCCEEDED,
    EventType.ATTEMPT_FAILED,
    EventType.ATTEMPT_LOST,
    EventType.ATTEMPT_CANCELLED,
)


def tally_of(log: Sequence[Record]) -> Tally:
    tally = Tally()
    state: RunState | None = None
    for offset, event in log:
        step = apply(state, event, offset)
        tally.observe(state, step)
        if step.state is not state and step.state is not None:
            state = compact(step.state)
    return tally


def timed(*facts: tuple[float, Fact]) -> list[Record]:
    return [(offset, h.event(fact, now=now)) for offset, (now, fact) in enumerate(facts)]


def samples(tally: Tally) -> dict[str, float]:
    """Every published sample, as Prometheus' own parser reads it: `name{label="value"}` -> value."""
    text = StatsMetrics(lambda: tally).render().decode()
    return {
        sample.name + "{" + ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items())) + "}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_run_moves_from_state_to_state_and_is_counted_once() -> None:
    log = h.log_of(COMPLETED)
    for length, state in ((1, "accepted"), (2, "dispatched"), (3, "dispatched"), (4, "started"), (6, "completed")):
        tally = tally_of(log[:length])
        assert {key: n for key, n in tally.runs.items() if n} == {(state, "sklearn"): 1}
    assert tally_of(log).ended == {("completed", "sklearn", ""): 1}


@pytest.mark.parametrize(
    ("facts", "ended"),
    [
        ((h.rejected(),), ("rejected", OTHER, "invalid_request")),
        ((h.accepted(), h.ended(EventType.RUN_CANCELLED)), ("cancelled", "sklearn", "user")),
        ((h.accepted(), h.ended(EventType.RUN_FAILED)), ("failed", "sklearn", "user")),
    ],
)
def test_an_end_is_counted_with_its_reason(facts: Sequence[Fact], ended: tuple[str, str, str]) -> None:
    assert tally_of(h.log_of(facts)).ended == {ended: 1}


def test_an_attempt_is_counted_when_it_ends_though_its_run_goes_on() -> None:
    tally = tally_of(
        h.log_of(
            (
                h.accepted(),
                h.dispatched(1),
                h.started(1),
                h.lost(1),
                h.lost(1),
                h.dispatched(2),
                h.started(2),
                h.failed(2),
                h.dispatched(3),
                h.started(3),
                h.succeeded(3),
                h.lost(3),
                h.ended(EventType.RUN_COMPLETED, 3),
            )
        )
    )
    assert tally.attempts == {
        ("attempt_lost", "sklearn", "worker_lost"): 1,
        ("attempt_failed", "sklearn", "trainer_error"): 1,
        ("attempt_succeeded", "sklearn", ""): 1,
    }
    assert tally.ended == {("completed", "sklearn", ""): 1}
    found = samples(tally)
    assert found['trainyard_attempts_ended_total{reason="worker_lost",state="attempt_lost",trainer="sklearn"}'] == 1
    assert found['trainyard_attempts_ended_total{reason="",state="attempt_succeeded",trainer="sklearn"}'] == 1


def test_the_parts_of_a_life_are_measured_in_seconds() -> None:
    tally = tally_of(
        timed(
            (100.0, h.accepted()),
            (100.2, h.dispatched(1)),
            (100.3, h.queued(1)),
            (104.3, h.started(1)),
            (124.3, h.failed(1)),
            (130.3, h.dispatched(2)),
            (130.8, h.started(2)),
            (140.8, h.succeeded(2)),
            (141.0, h.ended(EventType.RUN_COMPLETED, 2)),
        )
    )
    sums = {phase: durations.sum_s for (phase, _), durations in tally.phases.items()}
    assert sums == pytest.approx({"dispatch": 0.2 + 6.0, "queue": 4.0 + 0.5, "training": 20.0 + 10.0, "total": 41.0})
    counts = {phase: sum(durations.counts) for (phase, _), durations in tally.phases.items()}
    assert counts == {"dispatch": 2, "queue": 2, "training": 2, "total": 1}


def test_clocks_that_disagree_give_no_negative_duration() -> None:
    tally = tally_of(timed((100.0, h.accepted()), (99.0, h.dispatched(1)), (50.0, h.started(1))))
    assert [durations.sum_s for durations in tally.phases.values()] == [0.0, 0.0]


def test_a_duration_falls_into_the_bucket_that_prometheus_expects() -> None:
    durations = Durations()
    for seconds in (0.0, BUCKETS_S[0], BUCKETS_S[0] + 1e-6, BUCKETS_S[-1], 1e9):
        durations.observe(seconds)
    assert durations.counts == [2, 1, *[0] * (len(BUCKETS_S) - 3), 1, 1]


@settings(max_examples=150, deadline=None)
@given(h.interleavings())
def test_the_counts_agree_with_the_fold_whatever_two_writers_leave_in_the_log(facts: list[Fact]) -> None:
    log = h.log_of(facts)
    tally = tally_of(log)
    state: RunState | None = None
    attempts = 0
    for offset, event in log:
        step = apply(state, event, offset)
        attempts += event.fact.type in ATTEMPT_ENDS and step.verdict is Verdict.WON
        state = step.state
    expected = {} if state is None else {(state.phase.value, "sklearn"): 1}
    assert {key: n for key, n in tally.runs.items() if n} == expected
    assert tally.ended.total() == (1 if state is not None and state.is_ended else 0)
    assert tally.attempts.total() == attempts
    assert tally.records.total() == len(log)


@settings(max_examples=150, deadline=None)
@given(h.interleavings())
def test_a_stored_tally_and_state_go_on_as_if_nothing_had_happened(facts: list[Fact]) -> None:
    log = h.log_of(facts)
    tally = Tally()
    state: RunState | None = None
    for offset, event in log:
        tally = Tally.decode(tally.encode())
        before = None if state is None else decode_state(encode_state(state))
        step = apply(before, event, offset)
        tally.observe(before, step)
        if step.state is not before and step.state is not None:
            state = compact(step.state)
    assert tally.encode() == tally_of(log).encode()


@settings(max_examples=100, deadline=None)
@given(h.interleavings())
def test_a_compact_state_gives_the_same_verdicts_as_the_whole_one(facts: list[Fact]) -> None:
    small: RunState | None = None
    whole: RunState | None = None
    for offset, event in h.log_of(facts):
        step, full = apply(small, event, offset), apply(whole, event, offset)
        assert step.verdict is full.verdict
        small, whole = step.state if step.state is None else compact(step.state), full.state


def test_an_ended_run_takes_little_room() -> None:
    state: RunState | None = None
    for offset, event in h.log_of(COMPLETED):
        state = apply(state, event, offset).state
    assert state is not None
    assert len(encode_state(compact(state))) < 500


def test_what_is_published_is_what_was_counted_and_prometheus_can_read_it() -> None:
    found = samples(tally_of(timed(*((float(i), fact) for i, fact in enumerate(COMPLETED)))))
    assert found['trainyard_runs{state="completed",trainer="sklearn"}'] == 1
    assert found['trainyard_runs{state="started",trainer="sklearn"}'] == 0
    assert found['trainyard_runs_ended_total{reason="",state="completed",trainer="sklearn"}'] == 1
    assert found['trainyard_run_phase_seconds_sum{phase="total",trainer="sklearn"}'] == 5.0
    assert found['trainyard_run_phase_seconds_count{phase="training",trainer="sklearn"}'] == 1
    assert found['trainyard_lifecycle_records_total{verdict="won"}'] == 5
    assert found['trainyard_lifecycle_records_total{verdict="noted"}'] == 1
    buckets = [
        value
        for name, value in found.items()
        if name.startswith("trainyard_run_phase_seconds_bucket") and 'phase="total"' in name
    ]
    assert len(buckets) == len(BUCKETS_S) + 1
    assert all(left <= right for left, right in pairwise(buckets))


def test_bad_requests_cannot_make_time_series_of_their_own() -> None:
    tally = Tally()
    for i in range(1_000):
        fact = h.rejected().model_copy(update={"trainer": f'tr"a\niner-{i}', "reason": Reason.INVALID_REQUEST})
        tally.observe(None, apply(None, h.event(fact), i))
    assert tally.runs == {("rejected", OTHER): 1_000}
    assert samples(tally)['trainyard_runs{state="rejected",trainer="other"}'] == 1_000
