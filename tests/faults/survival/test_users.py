"""What people do: in ClearML, and by commands."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.faults.survival.conftest import LONG, SHORT, Survival
from tests.integration.trainer_worker.stage import until
from tests.processes import has_ended
from tests.timing import in_time
from trainyard_schemas.topics import TopicName
from trainyard_schemas.vocabulary import Reason


@pytest.mark.timed
def test_a_cancel_reaches_the_training_within_two_seconds_and_says_who_and_why(survival: Survival) -> None:
    survival.dispatcher()
    worker = survival.worker()
    survival.submit(LONG)
    run = survival.when("started")
    child = survival.training_child(worker)
    survival.command(run_id=run.run_id, command="cancel", message="wrong data")
    at = time.monotonic()
    until(lambda: has_ended(child.pid), "the child is gone")
    in_time(2.5, time.monotonic() - at)
    ended = survival.ends_once("cancelled", attempts=1)
    assert (ended.reason, ended.message) == (Reason.USER, "cancelled by alice: wrong data")


def test_a_run_that_waits_in_its_queue_is_cancelled_and_leaves_it(survival: Survival) -> None:
    survival.dispatcher()
    survival.submit(SHORT)
    run = survival.when("dispatched")
    survival.command(run_id=run.run_id, command="cancel")
    survival.ends_once("cancelled", attempts=1)


def test_a_command_that_overtakes_its_request_waits_for_it_and_nonsense_is_kept(survival: Survival) -> None:
    survival.yard.publish(b"nonsense", topic=TopicName.RUNS_COMMANDS)
    survival.dispatcher()
    survival.submit(SHORT)
    run = survival.when("dispatched")
    survival.command(run_id=run.run_id, command="reprioritise", priority=9)
    until(lambda: (survival.state() or run).priority == 9, "the priority is changed")
    survival.command(run_id="00000000-0000-5000-8000-000000000000", command="cancel")
    letters = until(
        lambda: found if len(found := survival.yard.read(TopicName.RUNS_COMMANDS_DEAD_LETTER)) == 2 else None,
        "both are kept",
    )
    details = {dict(letter.headers)["trainyard-detail"] for letter in letters}
    assert details == {b"not_json", b"unknown_run"}


@pytest.mark.parametrize(
    ("act", "detail"),
    [("stop", "task_stopped"), ("abort", "task_stopped"), ("reset", "task_reset"), ("delete", "task_deleted")],
)
def test_a_users_act_on_a_running_task_cancels_the_run(survival: Survival, act: str, detail: str) -> None:
    survival.dispatcher()
    survival.worker()
    survival.submit(LONG)
    run = survival.when("started")
    assert run.task_id is not None
    until(lambda: survival.stage.task(run.task_id or "")["status"] == "in_progress", "ClearML knows that it runs")

    async def do(client: Any) -> None:
        calls = {
            "stop": lambda: client.task_stopped(run.task_id),
            "abort": lambda: client._transport.effect("tasks.stop_many", {"ids": [run.task_id]}),
            "reset": lambda: client.reset_task(run.task_id, force=True),
            "delete": lambda: client.delete_task(run.task_id, force=True),
        }
        await calls[act]()

    survival.stage.clearml(do)
    ended = survival.ends_once("cancelled", attempts=1)
    assert (ended.reason, ended.detail) == (Reason.USER, detail)


def test_a_task_that_was_popped_and_begun_by_somebody_else_comes_back_to_its_queue(survival: Survival) -> None:
    survival.dispatcher()
    survival.submit(SHORT)
    run = survival.when("dispatched")
    assert run.task_id is not None
    until(lambda: survival.yard.entries() == [run.task_id], "it is queued")

    async def steal(client: Any) -> None:
        queue_id = await client.ensure_queue(survival.yard.queue)
        assert await client.get_next_task(queue_id) == run.task_id
        await client.task_started(run.task_id)

    survival.stage.clearml(steal)
    until(lambda: survival.yard.entries() == [run.task_id], "it is queued again")
    survival.worker()
    survival.ends_once("completed", attempts=1)


def test_a_clone_of_a_finished_run_becomes_a_run_of_its_own(survival: Survival) -> None:
    survival.dispatcher()
    survival.worker()
    survival.submit(SHORT)
    first = survival.when("completed")

    async def clone(client: Any) -> str:
        task_id: str = await client.clone_task(first.task_id, "once more")
        await client.edit_hyper_params(task_id, {"Run": {"random_seed": "7"}})
        await client.enqueue_task(task_id, await client.ensure_queue(survival.yard.queue))
        return task_id

    task_id = survival.stage.clearml(clone)

    def second() -> Any:
        others = [s for s in survival.story().states.values() if s.run_id != first.run_id]
        return next((s for s in others if s.is_ended), None)

    state = until(second, "the clone's run has ended")
    assert (state.phase.value, state.attempt, state.task_id) == ("completed", 1, task_id)
    assert state.request["run_name"] == "once more"
    assert state.request["split"]["random_seed"] == 7
    survival.stage.wait_status(task_id, "completed")


def test_a_run_that_no_worker_takes_in_time_fails_and_leaves_its_queue(survival: Survival) -> None:
    survival.dispatcher()
    survival.submit({**SHORT, "queue_ttl_s": 3})
    assert survival.ends_once("failed", attempts=1).reason is Reason.QUEUE_TIMEOUT
