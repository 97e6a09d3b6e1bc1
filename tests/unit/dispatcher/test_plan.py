"""The planner's decisions, state by state."""

from __future__ import annotations

from tests.unit.dispatcher.runs import ROUTING, accepted, dispatched, failed, started, state_after
from trainyard_dispatcher import actions as act
from trainyard_dispatcher.known import Known, Limits
from trainyard_dispatcher.plan import SEARCH_BATCH, plan, reject_conflicts
from trainyard_dispatcher.ports import TaskStatus
from trainyard_dispatcher.run_ends import conflict_answer
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason

LIMITS = Limits(max_queue_depth=2, close_grace_s=10.0)
NEVER_LED = dict.fromkeys(range(12), 1000)
LED_ALL_ALONG: dict[int, int] = {}


def _plan(
    *states: RunState,
    known: dict[str, Known] | None = None,
    busy: frozenset[str] = frozenset(),
    taken_over_at: dict[int, int] | None = None,
    now: float = 100.0,
) -> list[act.Action]:
    return plan(states, known or {}, busy, taken_over_at or {}, ROUTING, LIMITS, Vigil(), now, now)


def test_a_new_run_gets_a_task_in_the_queue_of_its_trainer() -> None:
    state = state_after(accepted())
    assert _plan(state) == [act.Create(state.run_id, 1, "cpu")]


def test_a_run_from_before_the_takeover_is_searched_before_it_is_created() -> None:
    state = state_after(accepted())
    assert _plan(state, taken_over_at=NEVER_LED) == [act.Search((state.run_id,))]
    searched = {state.run_id: Known(attempt=1, searched=True)}
    assert _plan(state, known=searched, taken_over_at=NEVER_LED) == [act.Create(state.run_id, 1, "cpu")]


def test_a_search_for_an_earlier_attempt_does_not_count_for_the_next() -> None:
    first = accepted(retry={"on": ["trainer_error"], "backoff_s": 0.0})
    run = first.run_id
    state = state_after(first, dispatched(run), started(run), failed(run, "trainer_error"))
    searched_before = {run: Known(attempt=1, searched=True)}
    assert _plan(state, known=searched_before, taken_over_at=NEVER_LED) == [act.Search((run,))]


def test_searches_come_in_batches() -> None:
    states = [state_after(accepted(f"k{i}")) for i in range(SEARCH_BATCH + 1)]
    actions = _plan(*states, taken_over_at=NEVER_LED)
    assert [len(a.run_ids) for a in actions if isinstance(a, act.Search)] == [SEARCH_BATCH, 1]


def test_a_found_task_is_dispatched_instead_of_creating_another() -> None:
    state = state_after(accepted())
    known = {state.run_id: Known(attempt=1, task_id="found", searched=True)}
    assert _plan(state, known=known) == [act.Dispatch(state.run_id, 1, "found", "cpu", lease_s=60.0, at_offset=0)]


def test_a_task_of_our_own_is_enqueued_without_another_look() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    known = {state.run_id: Known(attempt=1, task_id="task-1", status=TaskStatus.CREATED)}
    assert _plan(state, known=known) == [act.Enqueue(state.run_id, "task-1", "q-cpu")]


def test_the_winning_task_of_another_planner_is_looked_at_before_it_is_enqueued() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id, "theirs"))
    known = {state.run_id: Known(attempt=1, task_id="ours", status=TaskStatus.CREATED)}
    assert _plan(state, known=known) == [act.ReadStatus(state.run_id, "theirs")]


def test_a_task_that_stands_in_its_queue_is_noted_and_not_enqueued_again() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    known = {state.run_id: Known(attempt=1, task_id="task-1", status=TaskStatus.QUEUED)}
    (action,) = _plan(state, known=known)
    assert isinstance(action, act.Append)
    assert isinstance(action.fact, ev.AttemptQueued)


def test_nothing_is_done_once_the_log_says_queued_and_the_task_is() -> None:
    first = accepted()
    queued = ev.AttemptQueued(run_id=first.run_id, attempt=1, task_id="task-1", queue="cpu")
    state = state_after(first, dispatched(first.run_id), queued)
    known = {first.run_id: Known(attempt=1, task_id="task-1", status=TaskStatus.QUEUED)}
    assert _plan(state, known=known) == []


def test_a_task_that_a_user_deleted_cancels_the_attempt() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    known = {state.run_id: Known(attempt=1, task_id="task-1", status=TaskStatus.MISSING)}
    (action,) = _plan(state, known=known)
    assert isinstance(action, act.Append)
    assert isinstance(action.fact, ev.AttemptCancelled)
    assert action.fact.reason is Reason.USER


def test_a_fact_that_was_appended_is_awaited_and_then_appended_again() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    known = {
        state.run_id: Known(
            attempt=1, task_id="task-1", status=TaskStatus.QUEUED, appended_at=state.offset, visible_by=105.0
        )
    }
    assert _plan(state, known=known, now=104.9) == []
    assert len(_plan(state, known=known, now=105.0)) == 1


def test_a_queue_takes_no_more_than_its_depth_and_the_most_urgent_go_first() -> None:
    standing = accepted("standing")
    states = [
        state_after(standing, dispatched(standing.run_id)),
        state_after(accepted("late", priority=5), times=[3.0]),
        state_after(accepted("urgent", priority=9), times=[9.0]),
        state_after(accepted("early", priority=5), times=[1.0]),
    ]
    created = [a.run_id for a in _plan(*states) if isinstance(a, act.Create)]
    assert created == [states[2].run_id]


def test_a_run_whose_task_is_being_made_counts_as_standing_in_its_queue() -> None:
    states = [state_after(accepted(f"k{i}")) for i in range(4)]
    busy = frozenset({states[0].run_id})
    known = {states[1].run_id: Known(attempt=1, task_id="made")}
    actions = _plan(*states, busy=busy, known=known)
    assert [type(a) for a in actions] == [act.Dispatch]


def test_a_failed_attempt_is_retried_only_where_the_policy_says_so_and_after_a_growing_pause() -> None:
    policy = {"on": ["trainer_error"], "max_attempts": 2, "backoff_s": 20.0}
    first = accepted(retry=policy)
    run = first.run_id
    facts = [first, dispatched(run), started(run), failed(run, "trainer_error")]
    once = state_after(*facts, times=[0.0, 1.0, 2.0, 90.0])
    assert _plan(once, now=109.9) == []
    assert _plan(once, now=110.0) == [act.Create(run, 2, "cpu")]

    other = state_after(*facts[:3], failed(run, "invalid_dataset"))
    (action,) = _plan(other)
    assert isinstance(action, act.Append)
    assert isinstance(action.fact, ev.RunFailed)
    assert action.fact.reason is Reason.INVALID_DATASET

    again = [dispatched(run, "task-2", 2), started(run, "claim-0002", 2), failed(run, "trainer_error", "claim-0002", 2)]
    (action,) = _plan(state_after(*facts, *again), now=1_000.0)
    assert isinstance(action, act.Append)
    assert isinstance(action.fact, ev.RunFailed)
    assert action.fact.attempt == 2


def test_a_success_completes_the_run_with_all_its_results() -> None:
    first = accepted(tags=["baseline"])
    run = first.run_id
    succeeded = ev.AttemptSucceeded(
        run_id=run, attempt=1, task_id="task-1", claim="claim-0001", worker="w1", results={"value": 0.9}
    )
    (action,) = _plan(state_after(first, dispatched(run), started(run), succeeded))
    assert isinstance(action, act.Append)
    fact = action.fact
    assert isinstance(fact, ev.RunCompleted)
    assert (fact.state, fact.run_name, fact.project, fact.results) == (
        "completed",
        "wine-run",
        "AutoML",
        {"value": 0.9},
    )
    assert (fact.tags, fact.worker, fact.task_id, fact.attempt) == (("baseline",), "w1", "task-1", 1)


def test_a_refusal_by_clearml_ends_the_run_with_its_reason() -> None:
    state = state_after(accepted())
    known = {state.run_id: Known(refused=("unknown_queue", "there is no queue 'typo'"))}
    (action,) = _plan(state, known=known)
    assert isinstance(action, act.Append)
    assert isinstance(action.fact, ev.RunFailed)
    assert (action.fact.reason, action.fact.detail) == (Reason.CLEARML_REJECTED, "unknown_queue")


def test_a_request_that_lost_its_key_is_answered_under_an_id_of_its_own() -> None:
    losing = accepted("same", offset=8, metric="f1")
    (action,) = reject_conflicts([losing], {}, frozenset(), 0.0)
    assert action.run_id != losing.run_id
    assert action.fact.conflicts_with == losing.run_id
    assert action.fact.detail == "idempotency_conflict"
    assert reject_conflicts([losing], {}, frozenset({action.run_id}), 0.0) == []
    assert reject_conflicts([losing], {action.run_id: Known(visible_by=5.0)}, frozenset(), 4.0) == []


def test_a_conflict_says_whether_a_key_or_an_event_s_identity_is_taken() -> None:
    assert "the same idempotency_key: run" in conflict_answer(accepted(idempotency_key="a")).message
    assert "the same CloudEvent source and id: run" in conflict_answer(accepted()).message
