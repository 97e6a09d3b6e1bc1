"""The fold against the table of the design, cell by cell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.unit.schemas import histories as h
from trainyard_schemas.events import Fact
from trainyard_schemas.lifecycle import RunState, Verdict, apply, fold
from trainyard_schemas.topics import TopicName, topic
from trainyard_schemas.vocabulary import EventType, Reason, RunPhase

TABLE = """
-                 | run.accepted run.rejected
accepted          | attempt.dispatched run.cancelled run.failed
dispatched        | attempt.started attempt.failed attempt.cancelled (attempt.queued)
started           | attempt.succeeded attempt.failed attempt.cancelled attempt.lost (attempt.queued)
attempt_succeeded | run.completed
attempt_failed    | attempt.dispatched run.failed run.cancelled
attempt_lost      | attempt.dispatched run.failed run.cancelled
attempt_cancelled | run.cancelled
completed         |
failed            |
cancelled         |
rejected          |
"""
"""Events in brackets are noted and change no state. At any time before the end: cancel requested, reprioritised."""

ANY_TIME = {EventType.RUN_CANCEL_REQUESTED, EventType.RUN_REPRIORITISED}

PATHS: dict[str, tuple[Fact, ...]] = {
    "-": (),
    "accepted": (h.accepted(),),
    "dispatched": (h.accepted(), h.dispatched(1)),
    "started": (h.accepted(), h.dispatched(1), h.started(1)),
    "attempt_succeeded": (h.accepted(), h.dispatched(1), h.started(1), h.succeeded(1)),
    "attempt_failed": (h.accepted(), h.dispatched(1), h.started(1), h.failed(1)),
    "attempt_lost": (h.accepted(), h.dispatched(1), h.started(1), h.lost(1)),
    "attempt_cancelled": (h.accepted(), h.dispatched(1), h.started(1), h.attempt_cancelled(1)),
    "completed": (h.accepted(), h.dispatched(1), h.started(1), h.succeeded(1), h.ended(EventType.RUN_COMPLETED, 1)),
    "failed": (h.accepted(), h.ended(EventType.RUN_FAILED)),
    "cancelled": (h.accepted(), h.ended(EventType.RUN_CANCELLED)),
    "rejected": (h.rejected(),),
}


def _table() -> dict[str, dict[EventType, Verdict]]:
    rows = {}
    for line in TABLE.strip().splitlines():
        state, _, events = line.partition("|")
        rows[state.strip()] = {
            EventType(f"trainyard.{name.strip('()')}"): Verdict.NOTED if name.startswith("(") else Verdict.WON
            for name in events.split()
        }
    return rows


def _fitting(event_type: EventType, state: RunState | None) -> Fact:
    """The event with the attempt, task and claim that fit the state, so that only the table can refuse it."""
    n = max(state.attempt, 1) if state else 1
    claimer = "a" if state and state.claim else None
    match event_type:
        case EventType.RUN_ACCEPTED:
            return h.accepted()
        case EventType.RUN_REJECTED:
            return h.rejected()
        case EventType.RUN_CANCEL_REQUESTED:
            return h.cancel_requested()
        case EventType.RUN_REPRIORITISED:
            return h.reprioritised(9)
        case EventType.ATTEMPT_DISPATCHED:
            return h.dispatched(state.attempt + 1 if state else 1)
        case EventType.ATTEMPT_QUEUED:
            return h.queued(n)
        case EventType.ATTEMPT_STARTED:
            return h.started(n)
        case EventType.ATTEMPT_SUCCEEDED:
            return h.succeeded(n)
        case EventType.ATTEMPT_FAILED:
            return h.failed(n, claimer)
        case EventType.ATTEMPT_CANCELLED:
            return h.attempt_cancelled(n)
        case EventType.ATTEMPT_LOST:
            return h.lost(n)
        case _:
            return h.ended(event_type, state.attempt if state else 0)


def _state(facts: Sequence[Fact]) -> RunState | None:
    return fold(h.log_of(facts))


def test_the_table_has_a_row_for_every_state() -> None:
    assert set(_table()) == set(PATHS) == {"-", *RunPhase}


@pytest.mark.parametrize("row", PATHS)
def test_each_path_reaches_its_state(row: str) -> None:
    state = _state(PATHS[row])
    assert (state.phase.value if state else "-") == row


@pytest.mark.parametrize(
    ("row", "event_type"),
    list(itertools.product(PATHS, topic(TopicName.RUNS_LIFECYCLE).event_types)),
    ids=lambda part: part.short if isinstance(part, EventType) else part,
)
def test_the_fold_allows_what_the_table_allows_and_nothing_else(row: str, event_type: EventType) -> None:
    before = _state(PATHS[row])
    step = apply(before, h.event(_fitting(event_type, before)), 1_000)
    expected = _table()[row].get(event_type)
    if event_type in ANY_TIME and before is not None and not before.is_ended:
        expected = Verdict.NOTED
    if expected is None:
        assert not step.verdict.is_effective
        assert step.state is before
    else:
        assert step.verdict is expected
        assert step.state is not None
        assert step.state.offset == 1_000


@pytest.mark.parametrize(
    ("row", "fact", "verdict"),
    [
        ("-", h.dispatched(1), Verdict.UNKNOWN_RUN),
        ("accepted", h.accepted(), Verdict.DUPLICATE),
        ("accepted", h.accepted("d2"), Verdict.CONFLICT),
        ("completed", h.accepted("d2"), Verdict.CONFLICT),
        ("rejected", h.accepted(), Verdict.ENDED),
        ("accepted", h.dispatched(2), Verdict.WRONG_ATTEMPT),
        ("dispatched", h.dispatched(1), Verdict.DUPLICATE),
        ("dispatched", h.dispatched(1, "b"), Verdict.WRONG_ATTEMPT),
        ("dispatched", h.dispatched(2), Verdict.ILLEGAL),
        ("dispatched", h.queued(1, "b"), Verdict.WRONG_TASK),
        ("dispatched", h.queued(2), Verdict.WRONG_ATTEMPT),
        ("dispatched", h.started(1, "b"), Verdict.WRONG_TASK),
        ("dispatched", h.started(2), Verdict.WRONG_ATTEMPT),
        ("dispatched", h.failed(2, None), Verdict.WRONG_ATTEMPT),
        ("dispatched", h.failed(1, "a"), Verdict.ILLEGAL),
        ("dispatched", h.attempt_cancelled(1, "a"), Verdict.WRONG_CLAIM),
        ("started", h.started(1, "a", "b"), Verdict.WRONG_CLAIM),
        ("started", h.started(1), Verdict.DUPLICATE),
        ("started", h.succeeded(1, "b"), Verdict.WRONG_CLAIM),
        ("started", h.succeeded(2), Verdict.WRONG_ATTEMPT),
        ("started", h.failed(1, "b"), Verdict.WRONG_CLAIM),
        ("started", h.failed(1, None), Verdict.WRONG_CLAIM),
        ("started", h.attempt_cancelled(1, "b"), Verdict.WRONG_CLAIM),
        ("started", h.attempt_cancelled(2), Verdict.WRONG_ATTEMPT),
        ("started", h.lost(1, "b"), Verdict.WRONG_CLAIM),
        ("started", h.lost(2), Verdict.WRONG_ATTEMPT),
        ("attempt_lost", h.succeeded(1), Verdict.ILLEGAL),
        ("attempt_failed", h.dispatched(3), Verdict.WRONG_ATTEMPT),
        ("attempt_failed", h.failed(1), Verdict.DUPLICATE),
        ("attempt_succeeded", h.succeeded(1), Verdict.DUPLICATE),
        ("completed", h.ended(EventType.RUN_FAILED, 1), Verdict.ENDED),
        ("attempt_failed", h.ended(EventType.RUN_FAILED, 0), Verdict.WRONG_ATTEMPT),
        ("started", h.rejected(), Verdict.ILLEGAL),
    ],
)
def test_an_ignored_record_says_why(row: str, fact: Fact, verdict: Verdict) -> None:
    before = _state(PATHS[row])
    step = apply(before, h.event(fact), 1_000)
    assert step.verdict is verdict
    assert step.state is before


def test_the_second_attempt_starts_with_nothing_of_the_first() -> None:
    state = _state((*PATHS["attempt_failed"], h.dispatched(2, "b")))
    assert state is not None
    assert (state.attempt, state.task_id) == (2, h.task_of(2, "b"))
    assert (state.claim, state.worker, state.started_at, state.queued_at, state.reason) == (None,) * 5
    assert state.results is None
    late = apply(state, h.event(h.succeeded(1)), 1_000)
    assert late.verdict is Verdict.WRONG_ATTEMPT


def test_a_rejected_run_keeps_what_the_bad_request_said_of_itself() -> None:
    fact = h.rejected().model_copy(update={"run_name": "wine", "trainer": "flaml"})
    state = _state((fact,))
    assert state is not None
    assert state.request == {"run_name": "wine", "project": None, "trainer": "flaml"}
    assert state.is_ended


def test_an_ended_run_bears_the_reason_of_its_end_and_not_of_its_last_attempt() -> None:
    end = h.ended(EventType.RUN_FAILED, 1).model_copy(update={"detail": "attempts_used", "message": "3 of 3"})
    state = _state((*PATHS["attempt_lost"], end))
    assert state is not None
    assert (state.phase, state.reason, state.detail, state.message) == (
        RunPhase.FAILED,
        Reason.USER,
        "attempts_used",
        "3 of 3",
    )


def test_queued_is_noted_once_for_each_attempt() -> None:
    state = _state((*PATHS["dispatched"], h.queued(1)))
    again = apply(state, h.event(h.queued(1), now=99.0), 1_000)
    assert again.verdict is Verdict.DUPLICATE
    assert again.state is state
    second = _state((*PATHS["attempt_failed"], h.dispatched(2)))
    assert apply(second, h.event(h.queued(2)), 1_000).verdict is Verdict.NOTED
