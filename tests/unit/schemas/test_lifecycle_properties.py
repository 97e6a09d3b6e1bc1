"""What holds of the fold for every history that two writers could leave in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.schemas import histories as h
from trainyard_schemas import events as ev
from trainyard_schemas.events import Event, Fact
from trainyard_schemas.lifecycle import RunState, Verdict, apply, fold
from trainyard_schemas.vocabulary import TERMINAL_EVENTS, EventType

MANY = settings(max_examples=250, deadline=None)
Record = tuple[int, Event]


def _steps(log: Sequence[Record]) -> list[tuple[Event, RunState | None, Verdict]]:
    state, found = None, []
    for offset, event in log:
        step = apply(state, event, offset)
        found.append((event, step.state, step.verdict))
        state = step.state
    return found


def _winners(log: Sequence[Record]) -> list[Fact]:
    return [event.fact for event, _, verdict in _steps(log) if verdict is Verdict.WON]


@MANY
@given(h.interleavings())
def test_at_most_one_terminal_event_wins_and_nothing_follows_it(facts: list[Fact]) -> None:
    steps = _steps(h.log_of(facts))
    verdicts = [verdict for event, _, verdict in steps if event.type in TERMINAL_EVENTS]
    assert verdicts.count(Verdict.WON) <= 1
    note(f"ended: {Verdict.WON in verdicts}")
    end: RunState | None = None
    for _, state, verdict in steps:
        if end is not None:
            assert state is end
            assert verdict in (Verdict.ENDED, Verdict.DUPLICATE, Verdict.CONFLICT)
        elif state is not None and state.is_ended:
            end = state


@MANY
@given(h.interleavings())
def test_what_is_ignored_leaves_the_very_same_state(facts: list[Fact]) -> None:
    state: RunState | None = None
    for offset, event in h.log_of(facts):
        step = apply(state, event, offset)
        if step.verdict.is_effective:
            assert step.state is not None
            assert step.state is not state
            assert step.state.offset == offset
        else:
            assert step.state is state
        state = step.state


@MANY
@given(h.interleavings())
def test_no_event_is_effective_twice(facts: list[Fact]) -> None:
    effective = Counter(event.id for event, _, verdict in _steps(h.log_of(facts)) if verdict.is_effective)
    assert set(effective.values()) <= {1}


@MANY
@given(h.interleavings(), st.data())
def test_an_effective_record_appended_again_changes_nothing(facts: list[Fact], data: st.DataObject) -> None:
    log = h.log_of(facts)
    steps = _steps(log)
    effective = [i for i, (_, _, verdict) in enumerate(steps) if verdict.is_effective]
    if not effective:
        return
    again = data.draw(st.sampled_from(effective))
    at = data.draw(st.integers(again + 1, len(log)))
    doubled = [*log[:at], (10 * at + 5, log[again][1]), *log[at:]]
    assert fold(doubled) == fold(log)
    assert not _steps(doubled)[at][2].is_effective


@MANY
@given(h.interleavings(), st.data())
def test_a_snapshot_of_any_prefix_and_the_rest_give_the_state_of_the_whole(
    facts: list[Fact], data: st.DataObject
) -> None:
    log = h.log_of(facts)
    cut = data.draw(st.integers(0, len(log)))
    state = fold(log[:cut])
    for offset, event in log[cut:]:
        state = apply(state, event, offset).state
    assert state == fold(log)


@MANY
@given(h.interleavings())
def test_per_attempt_one_task_one_claim_and_one_outcome_win(facts: list[Fact]) -> None:
    winners = _winners(h.log_of(facts))
    tasks: dict[int, str] = {}
    claims: dict[int, str] = {}
    outcomes: Counter[int] = Counter()
    for fact in winners:
        if isinstance(fact, ev.AttemptDispatched):
            assert fact.attempt == len(tasks) + 1
            tasks[fact.attempt] = fact.task_id
        elif isinstance(fact, ev.AttemptStarted):
            assert fact.attempt not in claims
            assert fact.task_id == tasks[fact.attempt]
            claims[fact.attempt] = fact.claim
        elif isinstance(fact, ev.AttemptSucceeded):
            assert fact.claim == claims[fact.attempt]
            outcomes[fact.attempt] += 1
        elif isinstance(fact, ev.AttemptFailed | ev.AttemptCancelled | ev.AttemptLost):
            assert fact.claim in (None, claims.get(fact.attempt))
            outcomes[fact.attempt] += 1
    assert set(outcomes.values()) <= {1}
    assert set(outcomes) <= set(tasks)


@MANY
@given(h.interleavings())
def test_a_completed_run_has_a_winning_success_and_its_results(facts: list[Fact]) -> None:
    log = h.log_of(facts)
    state = fold(log)
    winners = _winners(log)
    if state is None or not any(fact.type is EventType.RUN_COMPLETED for fact in winners):
        return
    successes = [fact for fact in winners if isinstance(fact, ev.AttemptSucceeded)]
    assert [fact.attempt for fact in successes] == [state.attempt]
    assert state.results == successes[0].results


@MANY
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["p1", "p2", "p3"])), max_size=8))
def test_the_priority_is_that_of_the_last_command_seen_for_the_first_time(commands: list[tuple[int, str]]) -> None:
    facts = [h.accepted(), *(h.reprioritised(priority, command) for priority, command in commands)]
    expected, seen = 5, set()
    for priority, command in commands:
        if command not in seen:
            seen.add(command)
            expected = priority
    state = fold(h.log_of(facts))
    assert state is not None
    assert state.priority == expected


def test_the_strategy_reaches_every_end() -> None:
    """A property over histories that never end would prove nothing."""
    ends: Counter[str] = Counter()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(h.interleavings())
    def collect(facts: list[Fact]) -> None:
        state = fold(h.log_of(facts))
        if state is not None:
            ends[state.phase] += 1

    collect()
    assert {"completed", "failed", "cancelled"} <= set(ends)
    assert sum(ends[end] for end in ("completed", "failed", "cancelled")) > 30
