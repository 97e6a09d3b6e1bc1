"""What becomes of one popped task, with fakes at the ports."""

from __future__ import annotations

import pytest

from tests.unit.trainer_worker_protocol.world import (
    PREFIX,
    RUN_ID,
    TASK_ID,
    World,
    accepted,
    dispatched,
    lost_answers,
    marked,
    unavailable,
)
from trainyard_schemas.events import AttemptCancelled, AttemptFailed, AttemptStarted, AttemptSucceeded, Event
from trainyard_schemas.vocabulary import Reason, RunPhase
from trainyard_trainer_worker.ports import Ending, PublishFailed
from trainyard_trainer_worker.protocol import TELL_TRIES, Handled, deadline_of
from trainyard_trainer_worker.spec import Failed, Stopped


def test_a_dispatched_attempt_is_claimed_trained_published_recorded_and_closed_in_this_order() -> None:
    world = World().dispatch()
    assert world.pop() is Handled.SUCCEEDED
    assert [type(e.fact).__name__ for e in world.log.records[2:]] == ["AttemptStarted", "AttemptSucceeded"]
    assert world.log.state().phase is RunPhase.ATTEMPT_SUCCEEDED
    assert world.log.state().results == {
        "metric": "accuracy",
        "value": 0.9,
        "trainer": "sklearn",
        "model": {"id": "m1"},
    }
    assert world.tasks.told == ["started", "completed"]
    assert world.publisher.revealed == ["m1"]
    job = world.training.jobs[0]
    assert (job.run_id, job.attempt, job.claim, job.queue) == (RUN_ID, 1, "claim-0001", "cpu")
    assert job.request["trainer"] == "sklearn"


def test_the_second_read_continues_where_the_first_ended() -> None:
    world = World().dispatch()
    world.pop()
    assert world.log.reads[:2] == [0, 2]
    assert set(world.log.reads[2:]) == {3}, "what keeps the claim, and what looks whether the outcome won"


def test_a_claim_that_another_pop_won_is_left_alone() -> None:
    world = World().dispatch()

    def other_first(event: Event) -> None:
        if isinstance(event.fact, AttemptStarted) and event.fact.claim == "claim-0001":
            world.log.put(AttemptStarted(run_id=RUN_ID, attempt=1, task_id=TASK_ID, claim="other-claim", worker="w"))

    world.log.before_append = other_first
    assert world.pop() is Handled.CLAIM_LOST
    assert world.training.jobs == []
    assert world.tasks.told == []
    assert world.outbox.kept == []


def test_an_own_older_claim_of_the_same_worker_is_no_win() -> None:
    world = World().dispatch()
    world.log.put(
        AttemptStarted(
            run_id=RUN_ID, attempt=1, task_id=TASK_ID, claim="claim-of-an-earlier-pop", worker=world.worker.name
        )
    )
    assert world.pop() is Handled.NOT_DISPATCHED
    assert world.training.jobs == []


def test_a_lost_answer_to_the_claim_appends_the_same_record_again_and_wins_once() -> None:
    world = World().dispatch()
    world.log.after_append = lost_answers(2, world.log)
    assert world.pop() is Handled.SUCCEEDED
    started = [e for e in world.log.records if isinstance(e.fact, AttemptStarted)]
    assert len(started) == 3
    assert len({e.id for e in started}) == 1
    assert len(world.training.jobs) == 1


def test_a_log_that_is_away_is_asked_again_until_it_answers() -> None:
    world = World().dispatch()
    world.log.before_read = unavailable(5)
    world.log.before_append = unavailable(3)
    assert world.pop() is Handled.SUCCEEDED
    assert world.patience.pauses[:8] == [1, 2, 3, 4, 5, 1, 2, 3]


@pytest.mark.parametrize(
    "facts",
    [
        [],
        [accepted()],
        [accepted(), dispatched(task_id="another-task")],
        [accepted(), dispatched(), AttemptCancelled(run_id=RUN_ID, attempt=1, task_id=TASK_ID)],
        [
            accepted(),
            dispatched(),
            AttemptFailed(run_id=RUN_ID, attempt=1, reason=Reason.INTERNAL),
            dispatched(2, "task-2"),
        ],
        [
            accepted(),
            dispatched(1, "task-0"),
            AttemptFailed(run_id=RUN_ID, attempt=1, reason=Reason.INTERNAL),
            dispatched(2, TASK_ID),
        ],
    ],
    ids=["unknown run", "not dispatched", "another task won", "cancelled", "a later attempt", "an edited Run/attempt"],
)
def test_a_task_that_the_log_does_not_wait_for_is_left_without_a_trace(facts: list[object]) -> None:
    world = World()
    for fact in facts:
        world.log.put(fact)  # type: ignore[arg-type]
    before = len(world.log.records)
    assert world.pop() is Handled.NOT_DISPATCHED
    assert len(world.log.records) == before
    assert world.tasks.told == []


def test_a_deleted_task_is_gone() -> None:
    assert World(gone=True).pop() is Handled.GONE


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (marked(parameters={}), "no Run/run_id"),
        (marked(parameters={"Run": {"run_id": RUN_ID, "attempt": "1", "topic_prefix": "other."}}), "other."),
        (marked(parameters={"Run": {"run_id": RUN_ID, "attempt": "x", "topic_prefix": PREFIX}}), "Run/attempt"),
    ],
    ids=["unmarked", "other installation", "damaged marker"],
)
def test_a_foreign_task_is_failed_with_a_message_that_says_why(task: object, says: str) -> None:
    world = World(task).dispatch()  # type: ignore[arg-type]
    assert world.pop() is Handled.FOREIGN
    assert world.tasks.told == ["failed:foreign_task"]
    assert says in world.tasks.messages[0]
    assert world.training.jobs == []


def test_the_second_pop_of_a_doubled_foreign_task_leaves_it_alone() -> None:
    world = World(marked(parameters={}, status="failed"))
    assert world.pop() is Handled.FOREIGN
    assert world.tasks.told == []


def test_a_failed_training_appends_failed_with_claim_reason_and_detail() -> None:
    world = World().dispatch()
    world.training.outcome = Failed(Reason.INVALID_DATASET, "label_missing", "no column 'y'; there are 'a', 'b'")
    assert world.pop() is Handled.FAILED
    (fact,) = world.log.facts(AttemptFailed)
    assert (fact.reason, fact.detail, fact.claim) == (Reason.INVALID_DATASET, "label_missing", "claim-0001")
    assert world.log.state().phase is RunPhase.ATTEMPT_FAILED
    assert world.tasks.told == ["started", "failed:invalid_dataset"]


def test_a_model_that_cannot_be_registered_fails_the_attempt() -> None:
    world = World().dispatch()
    world.publisher.error = PublishFailed(Reason.CLEARML_REJECTED, "model_not_registered", "no")
    assert world.pop() is Handled.FAILED
    (fact,) = world.log.facts(AttemptFailed)
    assert fact.reason is Reason.CLEARML_REJECTED
    assert fact.results["value"] == 0.9


def test_clearml_trouble_during_training_never_fails_the_run() -> None:
    world = World().dispatch()
    world.tasks.failures = {"close": 5}
    assert world.pop() is Handled.SUCCEEDED
    assert world.tasks.told == ["started", *["completed"] * 6]


def test_a_start_that_clearml_does_not_take_does_not_hold_up_training() -> None:
    world = World().dispatch()
    world.tasks.failures = {"started": 100}
    assert world.pop() is Handled.SUCCEEDED
    assert world.tasks.told == [*["started"] * TELL_TRIES, "completed"]


def test_a_shutdown_during_training_fails_the_attempt_as_host_shutdown() -> None:
    world = World().dispatch()
    world.training.outcome = Stopped(Reason.HOST_SHUTDOWN)
    assert world.pop() is Handled.STOPPED
    (fact,) = world.log.facts(AttemptFailed)
    assert fact.reason is Reason.HOST_SHUTDOWN
    assert world.log.state().phase is RunPhase.ATTEMPT_FAILED


def test_a_shutdown_while_publishing_fails_the_attempt_as_host_shutdown() -> None:
    world = World().dispatch()
    world.publisher.error = Ending()
    assert world.pop() is Handled.STOPPED
    (fact,) = world.log.facts(AttemptFailed)
    assert fact.reason is Reason.HOST_SHUTDOWN


def test_a_shutdown_before_the_claim_leaves_no_trace() -> None:
    world = World().dispatch()
    world.log.before_read = unavailable(100)
    world.patience.ends_at = 2
    assert world.pop() is Handled.ENDING
    assert world.outbox.kept == []
    assert world.tasks.told == []


def test_a_shutdown_with_a_claim_of_unknown_outcome_says_that_the_attempt_ended() -> None:
    world = World().dispatch()
    world.log.after_append = lost_answers(100, world.log)
    world.patience.ends_at = 2
    world.outbox.ending = True
    assert world.pop() is Handled.STOPPED
    (event,) = world.outbox.kept
    fact = event.fact
    assert isinstance(fact, AttemptFailed)
    assert (fact.reason, fact.claim) == (Reason.HOST_SHUTDOWN, "claim-0001")


def test_an_outcome_that_only_reached_the_outbox_is_not_told_to_clearml() -> None:
    world = World().dispatch()
    world.outbox.ending = True
    assert world.pop() is Handled.STOPPED
    assert len(world.outbox.kept) == 1
    assert world.tasks.told == ["started"]


def test_results_beyond_what_readers_take_are_cut_and_named() -> None:
    world = World().dispatch()
    world.training.outcome = Failed(Reason.TRAINER_ERROR, "fit_failed", "x" * 10_000, {"config": ["y" * 300_000]})
    world.pop()
    (fact,) = world.log.facts(AttemptFailed)
    assert fact.results == {"left_out": ["config"]}
    assert len(fact.message) == 4_000


def test_the_same_claim_is_never_drawn_for_two_pops() -> None:
    world = World().dispatch()
    world.pop()
    world.log.records.clear()
    world.dispatch()
    world.pop()
    assert [job.claim for job in world.training.jobs] == ["claim-0001", "claim-0002"]


@pytest.mark.parametrize(
    ("request_", "default", "expected"),
    [
        ({"deadline_s": 30.0, "time_budget_s": 10.0}, 5.0, 30.0),
        ({"time_budget_s": 10.0}, 5.0, 5.0),
        ({"time_budget_s": 10.0}, None, 630.0),
        ({"deadline_s": None}, None, 600.0),
    ],
)
def test_the_deadline_is_the_request_s_else_the_worker_s_else_three_budgets_and_ten_minutes(
    request_: dict[str, object], default: float | None, expected: float
) -> None:
    assert deadline_of(request_, default) == expected


def test_a_succeeded_attempt_carries_all_results_of_the_publisher() -> None:
    world = World().dispatch()
    world.pop()
    (fact,) = world.log.facts(AttemptSucceeded)
    assert fact.results["model"] == {"id": "m1"}
    assert fact.worker == "host:trainyard-1"
