"""What the log orders while a claim is held, and what is left unsaid where it holds no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.trainer_worker_protocol.world import RUN_ID, TASK_ID, TRAINED, World, drive, unavailable
from trainyard_schemas.events import (
    AttemptCancelled,
    AttemptFailed,
    AttemptLost,
    AttemptSucceeded,
    Event,
    RunCancelRequested,
)
from trainyard_schemas.vocabulary import Reason, RunPhase
from trainyard_trainer_worker import protocol
from trainyard_trainer_worker.lease import Lease, Stop, Void
from trainyard_trainer_worker.outcome_facts import outcome_event
from trainyard_trainer_worker.protocol import Handled
from trainyard_trainer_worker.spec import Failed, Stopped

CANCEL = RunCancelRequested(run_id=RUN_ID, actor="alice", message="wrong data", command_id="c1")
LOST = AttemptLost(run_id=RUN_ID, attempt=1)


def test_a_cancelled_run_s_attempt_ends_with_who_asked_and_why() -> None:
    world = World().dispatch()
    world.training.until_ordered = True
    world.training.meanwhile = lambda: world.log.put(CANCEL)
    assert world.pop() is Handled.CANCELLED
    (fact,) = world.log.facts(AttemptCancelled)
    assert (fact.claim, fact.reason, fact.message) == ("claim-0001", Reason.USER, "cancelled by alice: wrong data")
    assert world.tasks.told == ["started", "stopped:user"]
    assert world.publisher.revealed == []


def test_a_run_that_is_cancelled_while_its_model_is_stored_is_cancelled() -> None:
    world = World().dispatch()
    world.publisher.until_ordered = True
    world.publisher.meanwhile = lambda: world.log.put(CANCEL)
    assert world.pop() is Handled.CANCELLED
    assert world.log.facts(AttemptSucceeded) == []
    assert world.publisher.revealed == []


def test_a_task_that_a_user_stopped_since_its_pop_is_not_shown_as_running_again() -> None:
    world = World().dispatch()

    def stop(event: Event) -> None:
        assert world.tasks.task is not None
        world.tasks.task = replace(world.tasks.task, status="stopped")

    world.log.after_append = stop
    world.training.until_ordered = True
    world.training.meanwhile = lambda: world.log.put(CANCEL)  # the planner has seen the stopped task
    assert world.pop() is Handled.CANCELLED
    assert "started" not in world.tasks.told


@pytest.mark.parametrize("where", ["training", "publishing"])
def test_a_worker_whose_claim_is_void_leaves_without_a_word(where: str) -> None:
    world = World().dispatch()
    part = world.training if where == "training" else world.publisher
    part.until_ordered = True
    part.meanwhile = lambda: world.log.put(LOST)
    assert world.pop() is Handled.SUPERSEDED
    assert world.outbox.kept == []
    assert world.tasks.told == ["started"], "the task is the planner's to end now"
    assert world.publisher.revealed == []


def test_an_outcome_that_came_after_the_attempt_was_given_up_shows_nothing_and_closes_nothing() -> None:
    world = World().dispatch()

    def given_up(event: object) -> None:
        if isinstance(getattr(event, "fact", None), AttemptSucceeded):
            world.log.put(LOST)

    world.log.before_append = given_up
    assert world.pop() is Handled.SUPERSEDED
    assert world.log.state().phase is RunPhase.ATTEMPT_LOST
    assert world.tasks.told == ["started"]
    assert world.publisher.revealed == []


def test_the_lease_is_renewed_by_when_the_fetch_was_sent_and_not_while_the_log_is_away() -> None:
    world = World().dispatch()
    world.training.until_ordered = True

    def meanwhile() -> None:
        lease = world.training.leases[0]
        assert lease.expires_at == 560.0
        world.patience.at = 530.0
        lease.listen(lambda: world.log.put(CANCEL) if lease.expires_at == 590.0 and lease.order is None else None)

    world.training.meanwhile = meanwhile
    assert world.pop() is Handled.CANCELLED
    assert world.training.leases[0].renewed_at == 530.0


def test_reads_that_fail_renew_nothing_and_give_no_order() -> None:
    world = World().dispatch()
    world.training.until_ordered = True

    def meanwhile() -> None:
        world.patience.at = 530.0
        world.log.before_read = unavailable(3)
        world.log.put(LOST)

    world.training.meanwhile = meanwhile
    assert world.pop() is Handled.SUPERSEDED
    assert world.training.leases[0].renewed_at == 500.0
    assert world.patience.pauses == [1, 2, 3]


@pytest.mark.parametrize("moved_on", [False, True])
def test_an_outcome_of_a_former_incarnation_is_settled_only_where_it_won(moved_on: bool) -> None:
    world = World().dispatch()
    world.training.until_ordered = True
    world.training.meanwhile = lambda: world.log.put(LOST if moved_on else CANCEL)
    world.pop()
    job = world.training.jobs[0]
    kept = outcome_event(job, Stopped(Reason.USER, "cancelled by alice"), "w", "writer-0", 5.0)
    told = list(world.tasks.told)
    drive(protocol.settle(kept, world.ports))
    assert world.tasks.told[len(told) :] == ([] if moved_on else ["stopped:user"])


def test_a_result_that_is_settled_shows_its_model() -> None:
    world = World().dispatch()
    world.tasks.failures = {"close": 1_000}
    world.pop()
    world.tasks.failures.clear()
    (event,) = [e for e in world.log.records if isinstance(e.fact, AttemptSucceeded)]
    drive(protocol.settle(event, world.ports))
    assert world.publisher.revealed == ["m1", "m1"]
    assert world.tasks.told[-1] == "completed"


def test_an_order_replaces_nothing_that_is_stronger() -> None:
    lease = Lease(60.0, 0.0)
    changes: list[int] = []
    unlisten = lease.listen(lambda: changes.append(1))
    stop, void = Stop(Reason.USER, "a"), Void("over")
    orders: list[Stop | Void | None] = []
    for given in (stop, Stop(Reason.USER, "b")):
        lease.give(given)
        orders.append(lease.order)
    lease.renew(10.0)
    assert lease.renewed_at == 10.0, "a worker that was told to stop still holds its claim"
    for order in (void, stop):
        lease.give(order)
        orders.append(lease.order)
    assert orders == [stop, stop, void, void]
    lease.renew(20.0)
    assert (lease.renewed_at, lease.is_valid(11.0)) == (10.0, False)
    assert len(changes) == 3
    unlisten()
    lease.give(void)
    assert len(changes) == 3


def test_a_lease_is_valid_until_it_expires_and_is_never_renewed_backwards() -> None:
    lease = Lease(60.0, 100.0)
    assert lease.is_valid(159.9)
    assert not lease.is_valid(160.0)
    lease.renew(90.0)
    assert lease.expires_at == 160.0


def test_a_failed_attempt_s_outcome_counts_also_when_the_run_has_failed_by_now() -> None:
    world = World().dispatch()
    world.training.outcome = Failed(Reason.INVALID_DATASET, "label_missing", "no")
    assert world.pop() is Handled.FAILED
    assert world.log.facts(AttemptFailed)[0].task_id == TASK_ID
    assert TRAINED.results["value"] == 0.9
