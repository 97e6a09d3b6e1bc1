"""What follows for one run from the log and from what ClearML shows: lost workers, users, limits of time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.dispatcher.runs import ROUTING, accepted, dispatched, failed, started, state_after
from trainyard_dispatcher import actions as act
from trainyard_dispatcher.known import Known, Limits, lease_is_over_after_s
from trainyard_dispatcher.next_step import MAX_RESETS, next_action
from trainyard_dispatcher.plan import plan
from trainyard_dispatcher.ports import TaskStatus
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason

LIMITS = Limits(silence_s=90.0, pop_grace_s=30.0, agent_grace_s=300.0, cancel_grace_s=30.0)
FIRST = accepted()
RUN = FIRST.run_id
CLAIM = "claim-0001"
QUEUED = ev.AttemptQueued(run_id=RUN, attempt=1, task_id="task-1", queue="cpu")
CANCEL = ev.RunCancelRequested(run_id=RUN, actor="alice", message="wrong data", command_id="c1")
IN_QUEUE = state_after(FIRST, dispatched(RUN), QUEUED)
STARTED = state_after(FIRST, dispatched(RUN), QUEUED, started(RUN))
LOST = ev.AttemptLost(run_id=RUN, attempt=1, claim=CLAIM)


def step(
    state: RunState,
    status: TaskStatus | None = None,
    *,
    vigil: Vigil | None = None,
    now: float = 100.0,
    steady: float = 500.0,
    **known: Any,
) -> act.Action | None:
    mine = Known(attempt=state.attempt, task_id=state.task_id, status=status, **known)
    return next_action(state, mine, ROUTING, LIMITS, vigil or Vigil(), now, steady)


def fact_of(action: act.Action | None) -> ev.Fact:
    assert isinstance(action, act.Append), action
    return action.fact


def silent_for(seconds: float) -> Vigil:
    vigil = Vigil()
    vigil.observe([STARTED], 500.0 - seconds)
    at = 500.0 - seconds
    while at < 500.0:
        vigil.read_to_end(at)
        at += 5.0
    vigil.read_to_end(500.0)
    return vigil


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (TaskStatus.STOPPED, "task_stopped"),
        (TaskStatus.MISSING, "task_deleted"),
        (TaskStatus.CREATED, "task_reset"),
    ],
)
def test_a_users_stop_delete_or_reset_cancels_a_running_attempt(status: TaskStatus, detail: str) -> None:
    fact = fact_of(step(STARTED, status, seen_claim=CLAIM))
    assert isinstance(fact, ev.AttemptCancelled)
    assert (fact.claim, fact.reason, fact.detail) == (None, Reason.USER, detail)


@pytest.mark.parametrize("status", list(TaskStatus))
def test_what_a_survey_saw_before_the_worker_claimed_decides_nothing(status: TaskStatus) -> None:
    assert step(STARTED, status, seen_claim=None) is None
    assert step(STARTED, status, seen_claim="an earlier claim") is None


@pytest.mark.parametrize(
    "status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.PUBLISHED, TaskStatus.QUEUED, TaskStatus.IN_PROGRESS]
)
def test_an_end_in_clearml_without_one_in_the_log_is_no_users_act(status: TaskStatus) -> None:
    assert step(STARTED, status, seen_claim=CLAIM) is None


def test_a_late_reset_of_our_own_is_undone_and_cancels_nothing() -> None:
    action = step(STARTED, TaskStatus.CREATED, seen_claim=CLAIM, was_reset_by_us=True)
    assert action == act.Restart(RUN, "task-1")


def test_a_silent_worker_is_given_up_by_its_claim() -> None:
    assert step(STARTED, vigil=silent_for(89.0)) is None
    fact = fact_of(step(STARTED, vigil=silent_for(90.0)))
    assert isinstance(fact, ev.AttemptLost)
    assert (fact.claim, fact.attempt) == (CLAIM, 1)
    assert fact.message == "no sign of life of w1 for 90 s"


def test_a_lost_attempt_is_followed_by_another_only_when_its_lease_is_over_on_our_own_clock() -> None:
    first = accepted(retry={"backoff_s": 0.0})
    state = state_after(first, dispatched(RUN), started(RUN), LOST)
    vigil, wait_s = Vigil(), lease_is_over_after_s(state.lease_s)

    def planned(now: float, steady: float) -> list[act.Action]:
        vigil.observe([state], steady)
        return plan([state], {}, frozenset(), {}, ROUTING, LIMITS, vigil, now, steady)

    assert wait_s > 60.0
    assert planned(now=10_000.0, steady=50.0) == [], "the wall clock says nothing about a lease"
    assert planned(now=10_000.0, steady=50.0 + wait_s - 0.1) == []
    assert planned(now=10_000.0, steady=50.0 + wait_s) == [act.Create(RUN, 2, "cpu")]


def test_a_lost_attempt_whose_policy_does_not_allow_another_fails_the_run_at_once() -> None:
    state = state_after(accepted(retry={"max_attempts": 1}), dispatched(RUN), started(RUN), LOST)
    fact = fact_of(step(state))
    assert isinstance(fact, ev.RunFailed)
    assert fact.reason is Reason.WORKER_LOST


def test_a_cancelled_run_that_lost_its_worker_is_cancelled() -> None:
    fact = fact_of(step(state_after(FIRST, dispatched(RUN), started(RUN), CANCEL, LOST)))
    assert isinstance(fact, ev.RunCancelled)
    assert (fact.reason, fact.message) == (Reason.USER, "cancelled by alice: wrong data")


def test_a_run_that_waits_in_a_queue_is_cancelled_at_once_and_a_running_one_by_its_worker() -> None:
    waiting = fact_of(step(state_after(FIRST, dispatched(RUN), QUEUED, CANCEL), TaskStatus.QUEUED))
    assert isinstance(waiting, ev.AttemptCancelled)
    assert waiting.message == "cancelled by alice: wrong data"
    running = state_after(FIRST, dispatched(RUN), started(RUN), CANCEL)
    assert step(running, now=running.cancel_requested_at + 30.0 if running.cancel_requested_at else 0.0) is None
    late = fact_of(step(running, now=(running.cancel_requested_at or 0.0) + 30.1))
    assert isinstance(late, ev.AttemptCancelled), "a worker that does not react is overruled"


@pytest.mark.parametrize("facts", [[], [dispatched(RUN), started(RUN), failed(RUN, "worker_lost")]])
def test_a_cancelled_run_between_attempts_ends(facts: list[ev.Fact]) -> None:
    fact = fact_of(step(state_after(FIRST, *facts, CANCEL)))
    assert isinstance(fact, ev.RunCancelled)


def test_a_popped_task_that_nobody_claims_is_queued_again_after_a_grace() -> None:
    assert step(IN_QUEUE, TaskStatus.QUEUED, absent_since=None) is None
    assert step(IN_QUEUE, TaskStatus.QUEUED, absent_since=470.1) is None
    assert step(IN_QUEUE, TaskStatus.QUEUED, absent_since=470.0) == act.Enqueue(RUN, "task-1", "q-cpu")


@pytest.mark.parametrize("status", [TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED, TaskStatus.FAILED])
def test_a_task_that_others_ran_is_reset_after_a_grace_since_their_last_sign_of_life(status: TaskStatus) -> None:
    assert step(IN_QUEUE, status, alive_at=0.0) is None, "no survey has seen it yet"
    assert step(IN_QUEUE, status, alive_at=200.1) is None
    assert step(IN_QUEUE, status, alive_at=200.0) == act.Reset(RUN, "task-1")
    fact = fact_of(step(IN_QUEUE, status, alive_at=200.0, resets=MAX_RESETS))
    assert isinstance(fact, ev.AttemptFailed)
    assert (fact.reason, fact.detail) == (Reason.CLEARML_REJECTED, "never_claimed")


@pytest.mark.parametrize(
    ("status", "kind", "detail"),
    [
        (TaskStatus.STOPPED, ev.AttemptCancelled, "task_stopped"),
        (TaskStatus.MISSING, ev.AttemptCancelled, "task_deleted"),
        (TaskStatus.PUBLISHED, ev.AttemptFailed, "task_published"),
    ],
)
def test_what_a_user_did_to_a_waiting_task_ends_the_attempt(
    status: TaskStatus, kind: type[ev.AttemptCancelled | ev.AttemptFailed], detail: str
) -> None:
    fact = fact_of(step(IN_QUEUE, status))
    assert isinstance(fact, kind)
    assert fact.detail == detail


def test_a_task_that_a_user_reset_while_it_waited_is_queued_again() -> None:
    assert step(IN_QUEUE, TaskStatus.CREATED) == act.Enqueue(RUN, "task-1", "q-cpu")


def test_an_adopted_clone_that_was_popped_is_queued_before_the_log_says_so() -> None:
    state = replace(state_after(FIRST, dispatched(RUN, "clone-1")), adopts_task="clone-1")
    assert step(state, TaskStatus.QUEUED, absent_since=499.0) == act.Enqueue(RUN, "clone-1", "q-cpu")
    assert isinstance(fact_of(step(state, TaskStatus.QUEUED)), ev.AttemptQueued)


def test_a_run_that_nobody_takes_in_time_fails_in_the_backlog_and_in_the_queue() -> None:
    hasty = accepted(queue_ttl_s=50.0)
    backlog = state_after(hasty, times=[10.0])
    assert step(backlog, now=60.0) is None
    in_backlog = fact_of(step(backlog, now=60.1))
    assert isinstance(in_backlog, ev.RunFailed)
    assert in_backlog.reason is Reason.QUEUE_TIMEOUT
    assert "queue_ttl_s of 50 s" in in_backlog.message
    queued = state_after(hasty, dispatched(RUN), QUEUED, times=[10.0, 11.0, 12.0])
    assert step(queued, TaskStatus.QUEUED, now=60.0) is None
    in_queue = fact_of(step(queued, TaskStatus.QUEUED, now=60.1))
    assert isinstance(in_queue, ev.AttemptFailed)
    assert in_queue.reason is Reason.QUEUE_TIMEOUT
    running = state_after(hasty, dispatched(RUN), QUEUED, started(RUN), times=[10.0, 11.0, 12.0, 13.0])
    assert step(running, now=1_000.0) is None


def test_a_run_that_waits_too_long_for_room_in_a_queue_is_told_so() -> None:
    state = state_after(accepted(queue_ttl_s=50.0), times=[10.0])
    (action,) = plan([state], {}, frozenset(), {}, ROUTING, LIMITS, Vigil(), 60.1, 0.0)
    assert isinstance(fact_of(action), ev.RunFailed)


def test_the_ttl_of_a_retry_counts_from_when_it_began_to_wait() -> None:
    policy = {"on": ["trainer_error"], "backoff_s": 20.0}
    facts = [accepted(queue_ttl_s=50.0, retry=policy), dispatched(RUN), started(RUN), failed(RUN, "trainer_error")]
    between = state_after(*facts, times=[0.0, 1.0, 2.0, 1_000.0])
    assert step(between, now=1_069.9) is None
    assert isinstance(fact_of(step(between, now=1_070.1)), ev.RunFailed)
    again = state_after(*facts, dispatched(RUN, "task-2", 2), times=[0.0, 1.0, 2.0, 1_000.0, 1_060.0])
    assert step(again, TaskStatus.CREATED, now=1_109.0) == act.Enqueue(RUN, "task-2", "q-cpu")
    assert isinstance(fact_of(step(again, TaskStatus.QUEUED, now=1_110.1)), ev.AttemptFailed)
