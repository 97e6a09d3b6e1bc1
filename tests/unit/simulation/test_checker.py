"""Each promise is broken once on purpose, in the evidence of a world that kept them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from trainyard_dispatcher.ports import TaskStatus
from trainyard_schemas import events as ev
from trainyard_schemas.events import Event
from trainyard_simulation.checker import check
from trainyard_simulation.clearml import Entry
from trainyard_simulation.evidence import Evidence, TaskLeft
from trainyard_simulation.producers import Kind
from trainyard_simulation.world import World

Lifecycle = Mapping[int, tuple[Event, ...]]


def evidence_with(kinds: set[Kind], is_rich: Callable[[Evidence], bool] = lambda _: True) -> Evidence:
    """The evidence of the first seed that had such requests and kept every promise."""
    for seed in range(1, 2_000):
        world = World(seed)
        result = world.run()
        evidence = world.evidence(came_to_rest=True)
        if {a.intent.kind for a in evidence.acknowledged} >= kinds and not result.violations and is_rich(evidence):
            return evidence
    raise AssertionError(f"no seed has {kinds}")


@pytest.fixture(scope="module")
def healthy() -> Evidence:
    def is_rich(evidence: Evidence) -> bool:
        types = {type(e.fact) for events in evidence.lifecycle.values() for e in events}
        return types >= {ev.RunCompleted, ev.RunRejected} and len(evidence.executions) >= 2

    return evidence_with({Kind.KEYED, Kind.POISON}, is_rich)


def without(lifecycle: Lifecycle, is_gone: Callable[[ev.Fact], bool]) -> Lifecycle:
    return {p: tuple(e for e in events if not is_gone(e.fact)) for p, events in lifecycle.items()}


def mapped(lifecycle: Lifecycle, change: Callable[[Event], list[Event]]) -> Lifecycle:
    return {p: tuple(new for e in events for new in change(e)) for p, events in lifecycle.items()}


def broken(evidence: Evidence) -> set[int]:
    return {v.invariant for v in check(evidence)}


def test_the_evidence_of_a_healthy_world_breaks_nothing(healthy: Evidence) -> None:
    assert check(healthy) == []


def test_a_lost_run_is_found(healthy: Evidence) -> None:
    lost = healthy.executions[0].run_id
    gone = without(healthy.lifecycle, lambda f: f.run_id == lost)
    assert 1 in broken(replace(healthy, lifecycle=gone))


def test_a_run_without_an_end_is_found(healthy: Evidence) -> None:
    gone = without(healthy.lifecycle, lambda f: isinstance(f, ev.RunEnd))
    assert any("no terminal event" in v.message for v in check(replace(healthy, lifecycle=gone)))


def test_a_request_that_was_answered_twice_is_found(healthy: Evidence) -> None:
    def change(event: Event) -> list[Event]:
        if not isinstance(event.fact, ev.RunAccepted):
            return [event]
        other = event.fact.model_copy(update={"run_id": "00000000-0000-5000-8000-000000000000"})
        return [event, replace(event, fact=other)]

    messages = [v.message for v in check(replace(healthy, lifecycle=mapped(healthy.lifecycle, change)))]
    assert any("answered as two runs" in m for m in messages)
    assert any("no terminal event" in m for m in messages)


def test_a_request_that_was_accepted_and_rejected_is_found(healthy: Evidence) -> None:
    rejected = next(e for events in healthy.lifecycle.values() for e in events if isinstance(e.fact, ev.RunRejected))

    def change(event: Event) -> list[Event]:
        if not isinstance(event.fact, ev.RunAccepted):
            return [event]
        fact = rejected.fact.model_copy(update={"origin": event.fact.origin})
        return [event, replace(rejected, fact=fact)]

    assert 1 in broken(replace(healthy, lifecycle=mapped(healthy.lifecycle, change)))


def test_a_doubled_run_is_found(healthy: Evidence) -> None:
    again = replace(healthy.executions[0], by="somebody-else", claim="another claim")
    messages = [v.message for v in check(replace(healthy, executions=(*healthy.executions, again)))]
    assert any("was trained by" in m and "somebody-else" in m for m in messages)
    assert any("claim that did not win" in m for m in messages)


def test_training_of_a_task_that_did_not_win_is_found(healthy: Evidence) -> None:
    other = replace(healthy.executions[0], task_id="task-999")
    assert 2 in broken(replace(healthy, executions=(other, *healthy.executions[1:])))


def test_success_without_training_is_found(healthy: Evidence) -> None:
    assert 3 in broken(replace(healthy, executions=()))


def test_swapped_order_is_found(healthy: Evidence) -> None:
    swapped = {p: tuple(reversed(events)) for p, events in healthy.lifecycle.items()}
    assert 1 in broken(replace(healthy, lifecycle=swapped))


def test_a_skipped_offset_is_found(healthy: Evidence) -> None:
    assert broken(replace(healthy, early_commits=((0, 7),))) == {4}


def test_a_commit_beyond_the_end_is_found(healthy: Evidence) -> None:
    partition = next(iter(healthy.requested))
    beyond = dict(healthy.committed) | {partition: len(healthy.requested[partition]) + 1}
    assert broken(replace(healthy, committed=beyond)) == {4}


def test_an_entry_of_a_task_that_did_not_win_is_found(healthy: Evidence) -> None:
    first = healthy.executions[0]
    tasks = dict(healthy.tasks) | {"task-999": TaskLeft(first.run_id, first.attempt, TaskStatus.STOPPED)}
    entry = Entry("task-999", "planner-1", TaskStatus.CREATED, blind=False)
    assert broken(replace(healthy, tasks=tasks, entries=(*healthy.entries, entry))) == {2}


@pytest.mark.parametrize(("blind", "found"), [(True, {2}), (False, set())])
def test_a_second_entry_is_a_broken_promise_if_its_maker_did_not_look(
    healthy: Evidence, blind: bool, found: set[int]
) -> None:
    again = replace(healthy.entries[0], status_before=TaskStatus.QUEUED, blind=blind)
    assert broken(replace(healthy, entries=(*healthy.entries, again))) == found


def test_a_missing_dead_letter_is_found(healthy: Evidence) -> None:
    assert broken(replace(healthy, dead_letters=())) == {7}


def test_a_dead_letter_with_other_bytes_is_found(healthy: Evidence) -> None:
    changed = tuple(replace(r, value=b"cut") for r in healthy.dead_letters)
    assert broken(replace(healthy, dead_letters=changed)) == {7}


def test_a_dead_letter_of_nothing_is_found(healthy: Evidence) -> None:
    stray = replace(healthy.dead_letters[0], headers=(("trainyard-run-id", b"nobody"),))
    assert broken(replace(healthy, dead_letters=(*healthy.dead_letters, stray))) == {7}


def test_a_world_that_did_not_come_to_rest_is_found(healthy: Evidence) -> None:
    assert broken(replace(healthy, came_to_rest=False)) == {8}


def test_a_task_left_in_a_queue_is_found(healthy: Evidence) -> None:
    assert broken(replace(healthy, queued_now=(healthy.executions[0].task_id,))) == {8}


@pytest.mark.parametrize("status", [TaskStatus.CREATED, TaskStatus.QUEUED, TaskStatus.IN_PROGRESS])
def test_a_task_left_open_after_its_run_ended_is_found(healthy: Evidence, status: TaskStatus) -> None:
    def left(**change: Any) -> Evidence:
        tasks = {t: replace(task, status=status, **change) for t, task in healthy.tasks.items()}
        return replace(healthy, tasks=tasks)

    assert broken(left()) == {8}
    assert broken(left(is_ours=False)) == set(), "a user's clone is the user's"
    assert broken(replace(left(), deleted=frozenset(healthy.tasks))) == set()


def test_two_attempts_that_compute_at_the_same_time_are_found(healthy: Evidence) -> None:
    def with_spans(second: tuple[float, float], *, attempt: int = 2) -> set[int]:
        first = replace(healthy.executions[0], spans=[(10.0, 20.0)])
        other = replace(first, attempt=attempt, spans=[second])
        return {v.invariant for v in check(replace(healthy, executions=(first, other))) if "same time" in v.message}

    assert with_spans((19.9, 30.0)) == {3}
    assert with_spans((20.0, 30.0)) == set()
    assert with_spans((19.9, 30.0), attempt=1) == set(), "one attempt may be frozen and thawed"


def test_a_run_that_was_cancelled_for_no_reason_is_found(healthy: Evidence) -> None:
    def change(event: Event) -> list[Event]:
        if not isinstance(event.fact, ev.RunCompleted):
            return [event]
        common = event.fact.model_dump(exclude={"state"})
        end = ev.RunCancelled.model_validate(common | {"reason": "user"})
        cancelled = ev.AttemptCancelled(run_id=end.run_id, attempt=end.attempt)
        return [replace(event, fact=cancelled), replace(event, fact=end)]

    lifecycle = mapped(without(healthy.lifecycle, lambda f: isinstance(f, ev.AttemptSucceeded)), change)
    evidence = replace(healthy, lifecycle=lifecycle, shown_models={}, completed=None)
    assert broken(evidence) == {1}
    runs = frozenset(e.fact.run_id for events in lifecycle.values() for e in events)
    assert broken(replace(evidence, meddled_with=runs)) == set()


def test_a_model_that_should_not_or_cannot_be_seen_is_found(healthy: Evidence) -> None:
    assert broken(replace(healthy, shown_models={})) == {8}
    run_id = next(iter(healthy.shown_models))
    more = dict(healthy.shown_models) | {run_id: healthy.shown_models[run_id] | {"another claim"}}
    assert broken(replace(healthy, shown_models=more)) == {3}


def test_rubbish_that_was_accepted_is_found(healthy: Evidence) -> None:
    poison = tuple(
        replace(a, intent=replace(a.intent, kind=Kind.POISON)) if a.intent.kind is Kind.KEYED else a
        for a in healthy.acknowledged
    )
    assert any("was accepted" in v.message for v in check(replace(healthy, acknowledged=poison)))


def test_two_runs_under_one_key_are_found() -> None:
    evidence = evidence_with({Kind.KEYED, Kind.EVENT})
    assert check(evidence) == []
    one_key = tuple(replace(a, intent=replace(a.intent, identity="same")) for a in evidence.acknowledged)
    assert any("instead of one" in v.message for v in check(replace(evidence, acknowledged=one_key)))


def test_a_conflict_that_nobody_was_told_of_is_found() -> None:
    def has_conflict(evidence: Evidence) -> bool:
        return any(
            isinstance(e.fact, ev.RunRejected) and e.fact.conflicts_with
            for events in evidence.lifecycle.values()
            for e in events
        )

    evidence = evidence_with({Kind.KEYED}, has_conflict)
    untold = without(evidence.lifecycle, lambda f: isinstance(f, ev.RunRejected) and f.conflicts_with is not None)
    assert any("was not told" in v.message for v in check(replace(evidence, lifecycle=untold)))


def copied(healthy: Evidence) -> tuple[Event, ...]:
    """What the copier would have left of the healthy world."""
    ends = [
        e for events in healthy.lifecycle.values() for e in events if isinstance(e.fact, ev.RunEnd | ev.RunRejected)
    ]
    first: dict[str, Event] = {}
    for end in ends:
        first.setdefault(end.fact.run_id, end)
    return tuple(first.values())


def test_ends_that_were_copied_once_or_twice_break_nothing(healthy: Evidence) -> None:
    ends = copied(healthy)
    assert len(ends) >= 2
    assert broken(replace(healthy, completed=ends)) == set()
    assert broken(replace(healthy, completed=(*ends, ends[0]))) == set()


def test_an_end_that_was_not_copied_is_found(healthy: Evidence) -> None:
    assert broken(replace(healthy, completed=copied(healthy)[1:])) == {7}


def test_an_end_that_did_not_win_or_never_was_is_found(healthy: Evidence) -> None:
    ends = copied(healthy)
    other = replace(ends[0], fact=ends[0].fact.model_copy(update={"run_name": "another"}))
    stray = replace(ends[0], fact=ends[0].fact.model_copy(update={"run_id": "00000000-0000-5000-8000-000000000000"}))
    assert broken(replace(healthy, completed=(*ends, other))) == {7}
    assert broken(replace(healthy, completed=(*ends, stray))) == {7}
