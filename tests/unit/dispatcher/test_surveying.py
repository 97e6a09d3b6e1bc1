"""What a survey of ClearML means, and what is swept away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.dispatcher.runs import ROUTING, accepted, dispatched, failed, started, state_after
from trainyard_dispatcher import actions as act
from trainyard_dispatcher.known import Known, Limits
from trainyard_dispatcher.lead import Lead
from trainyard_dispatcher.ports import SeenTask, Survey, TaskStatus, UnseenModel
from trainyard_dispatcher.surveying import Asked, absent_clones, learn, sweep, to_ask
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState

LIMITS = Limits(close_grace_s=15.0, pop_grace_s=30.0)
FIRST = accepted()
RUN = FIRST.run_id
CLAIM = "claim-0001"
ACCEPTED = state_after(FIRST)
WAITING = state_after(FIRST, dispatched(RUN))
STARTED = state_after(FIRST, dispatched(RUN), started(RUN))
SUCCEEDED = state_after(
    FIRST,
    dispatched(RUN),
    started(RUN),
    ev.AttemptSucceeded(run_id=RUN, attempt=1, task_id="task-1", claim=CLAIM, worker="w1", results={}),
)
FAILED = state_after(FIRST, dispatched(RUN), started(RUN), failed(RUN, "trainer_error"))
AGAIN = state_after(
    accepted(retry={"on": ["trainer_error"]}),
    dispatched(RUN),
    started(RUN),
    failed(RUN, "trainer_error"),
    dispatched(RUN, "task-2", 2),
)
LATER = 1_000.0


def seen(task_id: str = "task-1", status: TaskStatus = TaskStatus.QUEUED, attempt: int = 1, **more: Any) -> SeenTask:
    return SeenTask(task_id, more.pop("run_id", RUN), attempt, status, **more)


def swept(state: RunState | None, *tasks: SeenTask, lost: frozenset[str] = frozenset(), now: float = LATER) -> Any:
    states = {} if state is None else {state.run_id: state}
    return list(sweep(Survey({}, tasks, frozenset()), lost, states.get, LIMITS, now))


@pytest.mark.parametrize("state", [WAITING, STARTED])
@pytest.mark.parametrize("status", [TaskStatus.CREATED, TaskStatus.QUEUED, TaskStatus.IN_PROGRESS])
def test_the_task_of_an_active_attempt_is_left_alone(state: RunState, status: TaskStatus) -> None:
    assert swept(state, seen(status=status)) == []


def test_a_task_of_the_next_attempt_is_left_alone_until_another_one_has_won_it() -> None:
    candidate = seen("task-9", TaskStatus.CREATED)
    assert swept(ACCEPTED, candidate) == []
    assert swept(FAILED, seen("task-9", TaskStatus.CREATED, attempt=2)) == []
    assert swept(WAITING, candidate) == [act.Delete(RUN, "task-9")]


def test_a_task_of_an_attempt_that_is_over_leaves_its_queue_or_is_stopped() -> None:
    for status in (TaskStatus.QUEUED, TaskStatus.IN_PROGRESS):
        (close,) = swept(AGAIN, seen("task-1", status))
        assert isinstance(close, act.Close)
        assert (close.task_id, close.was, close.status) == ("task-1", status, TaskStatus.STOPPED)


@pytest.mark.parametrize(
    ("state", "status"), [(SUCCEEDED, TaskStatus.COMPLETED), (FAILED, TaskStatus.FAILED)], ids=["succeeded", "failed"]
)
def test_the_last_task_ends_as_its_attempt_did_after_its_worker_had_time_to_say_so(
    state: RunState, status: TaskStatus
) -> None:
    assert swept(state, seen(status=TaskStatus.IN_PROGRESS), now=3.0 + 15.0) == []
    (close,) = swept(state, seen(status=TaskStatus.IN_PROGRESS), now=3.0 + 15.1)
    assert close.status is status


def test_a_task_of_a_run_that_the_log_does_not_know_is_left_alone() -> None:
    assert swept(None, seen(status=TaskStatus.IN_PROGRESS)) == []


def test_a_clone_is_never_deleted_and_a_lost_one_is_queued_again() -> None:
    clone = seen("clone-1", TaskStatus.QUEUED, parent="task-1", queue_id="q-cpu", run_id="its own")
    assert swept(None, clone) == []
    assert swept(None, clone, lost=frozenset({"clone-1"})) == [act.Requeue("its own", "clone-1", "q-cpu")]
    kept = seen("clone-1", TaskStatus.CREATED, parent="task-1")
    assert swept(AGAIN, kept) == []


def test_a_clone_is_lost_when_two_surveys_a_grace_apart_saw_it_in_no_queue() -> None:
    clone = seen("clone-1", TaskStatus.QUEUED, parent="task-1", queue_id="q-cpu", run_id="its own")
    absent, present = Survey({}, (clone,), frozenset()), Survey({}, (clone,), frozenset({"clone-1"}))
    since = absent_clones(absent, {}, 10.0)
    assert absent_clones(absent, since, 40.0) == {"clone-1": 10.0}
    assert absent_clones(present, since, 40.0) == {}

    lead = Lead({}, ROUTING, LIMITS, Vigil())
    requeued = []
    for steady in (10.0, 39.0, 41.0):
        lead.surveyed((), absent, steady)
        requeued.append(lead.actions({}, {}, lambda _: None, 0.0, steady))
    assert requeued == [[], [], [act.Requeue("its own", "clone-1", "q-cpu")]]


def test_what_a_survey_showed_to_be_litter_is_named_once_and_not_while_its_run_is_busy() -> None:
    lead = Lead({}, ROUTING, LIMITS, Vigil())
    survey = Survey({}, (seen("task-9", TaskStatus.CREATED),), frozenset())
    states = {RUN: WAITING}
    look = act.ReadStatus(RUN, "task-1")
    lead.surveyed((), survey, 1.0)
    assert lead.actions(states, {}, states.get, 0.0, 1.0) == [look], "one action for a run at a time"
    lead.begin(look)
    lead.surveyed((), survey, 2.0)
    assert lead.actions(states, {}, states.get, 0.0, 2.0) == [] or lead.busy == {RUN}
    lead.ended(look, {RUN: Known(attempt=1, task_id="task-1", status=TaskStatus.QUEUED, retry_at=9.0)})
    lead.surveyed((), survey, 3.0)
    assert lead.actions(states, {}, states.get, 0.0, 3.0) == [act.Delete(RUN, "task-9")]
    assert lead.actions(states, {}, states.get, 0.0, 3.0) == []


def judged(state: RunState, *, attempt: int = 1, claim: str = CLAIM, now: float = LATER) -> list[act.Action]:
    survey = Survey({}, (), frozenset(), (UnseenModel("m", RUN, attempt, claim),))
    return list(sweep(survey, frozenset(), {RUN: state}.get, LIMITS, now))


def test_the_model_of_the_attempt_that_won_is_shown_once_its_worker_had_time_to() -> None:
    assert judged(SUCCEEDED, now=3.0 + 15.0) == []
    assert judged(SUCCEEDED) == [act.Reveal(RUN, "m")]


def test_the_model_of_an_attempt_that_did_not_win_is_deleted_and_one_that_may_yet_win_is_not() -> None:
    assert judged(STARTED) == []
    assert judged(STARTED, claim="another claim") == [act.DeleteModel(RUN, "m")]
    assert judged(SUCCEEDED, claim="another claim") == [act.DeleteModel(RUN, "m")]
    assert judged(FAILED) == [act.DeleteModel(RUN, "m")]
    assert judged(AGAIN, attempt=1) == [act.DeleteModel(RUN, "m")]
    assert judged(WAITING) == [], "nobody has claimed the attempt yet, as far as this planner has read"
    assert judged(ACCEPTED) == []


ASKED = (Asked(RUN, "task-1", 1, None),)


def test_only_active_attempts_are_asked_for_with_the_claim_that_the_log_shows() -> None:
    states = {str(n): s for n, s in enumerate([ACCEPTED, WAITING, STARTED, SUCCEEDED, FAILED])}
    assert to_ask(states) == (Asked(RUN, "task-1", 1, None), Asked(RUN, "task-1", 1, CLAIM))


def test_a_waiting_task_that_is_not_as_it_was_is_looked_at_again_before_anything_is_done() -> None:
    known = {RUN: Known(attempt=1, task_id="task-1", status=TaskStatus.QUEUED)}
    same = Survey({"task-1": seen()}, (), frozenset({"task-1"}))
    assert learn(ASKED, same, known, 5.0)[RUN].status is TaskStatus.QUEUED
    for other in ({}, {"task-1": seen(status=TaskStatus.CREATED)}, {"task-1": seen(status=TaskStatus.STOPPED)}):
        assert learn(ASKED, Survey(other, (), frozenset()), known, 5.0)[RUN].status is None


def test_a_queued_task_that_stands_in_no_queue_is_absent_since_the_first_survey_that_saw_it_so() -> None:
    known = {RUN: Known(attempt=1, task_id="task-1", status=TaskStatus.QUEUED)}
    absent = Survey({"task-1": seen()}, (), frozenset())
    once = learn(ASKED, absent, known, 5.0)
    assert once[RUN].absent_since == 5.0
    assert learn(ASKED, absent, once, 9.0)[RUN].absent_since == 5.0
    assert learn(ASKED, Survey({"task-1": seen()}, (), frozenset({"task-1"})), once, 9.0)[RUN].absent_since is None


def test_clearmls_last_sign_of_life_is_when_it_was_last_seen_to_change() -> None:
    def look(known: dict[str, Known], sign: str, at: float) -> dict[str, Known]:
        task = seen(status=TaskStatus.IN_PROGRESS, sign_of_life=sign)
        return learn(ASKED, Survey({"task-1": task}, (), frozenset()), known, at)

    once = look({}, "10:00", 5.0)
    still = look(once, "10:00", 50.0)
    moved = look(still, "10:01", 60.0)
    assert [k[RUN].alive_at for k in (once, still, moved)] == [5.0, 5.0, 60.0]


def test_a_running_attempts_task_is_known_together_with_the_claim_at_the_asking() -> None:
    asked = (Asked(RUN, "task-1", 1, CLAIM),)
    known = learn(asked, Survey({"task-1": seen(status=TaskStatus.STOPPED)}, (), frozenset()), {}, 5.0)[RUN]
    assert (known.status, known.seen_claim) == (TaskStatus.STOPPED, CLAIM)
    gone = learn(asked, Survey({}, (), frozenset()), {}, 5.0)[RUN]
    assert gone.status is TaskStatus.MISSING
