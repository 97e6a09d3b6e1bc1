"""kill -9 of a worker in each of its windows: at most one execution, one outcome, nothing half visible.

A claim whose worker died (W2 to W5) stays claimed: only `attempt.lost`, the planner's order, frees it. Until then
nobody else may train the attempt, however often its task is enqueued.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any

import psutil
import pytest

from tests.integration.trainer_worker.stage import Dispatched, Process, Stage, example, until
from trainyard_runtime.clearml import ClearMLRefused
from trainyard_schemas.events import AttemptStarted, AttemptSucceeded
from trainyard_schemas.lifecycle import RunState, fold
from trainyard_schemas.vocabulary import EventType, RunPhase
from trainyard_trainer_worker.model_naming import attempt_path

REQUEST = {**example("wine-sklearn"), "extras": {"sklearn": {"estimator": "logreg"}}}


def killed_at(stage: Stage, window: str) -> Dispatched:
    """A run whose worker killed itself in this window."""
    worker = stage.start_worker(TRAINYARD_FAILPOINT=f"{window}:kill")
    run = stage.dispatch(REQUEST)
    assert worker.popen.wait(120) == -signal.SIGKILL
    return run


def state_of(stage: Stage, run: Dispatched) -> RunState:
    state = fold(stage.events(run.run_id))
    assert state is not None
    return state


def results(process: Process) -> list[str]:
    return [line["result"] for line in process.log() if line.get("action") == "handle"]


def successor_leaves_it_alone(stage: Stage, run: Dispatched) -> None:
    """Another worker pops the same task again, and does nothing with it."""
    task = stage.task(run.task_id)
    if task["status"] == "in_progress":
        stage.clearml(lambda client: client.reset_task(run.task_id))
    stage.enqueue_again(run)
    successor = stage.start_worker("successor")
    until(lambda: results(successor), "the successor is through with it")
    assert results(successor) == ["not_dispatched"]


def test_w1_a_task_that_was_popped_and_not_claimed_is_trained_once_it_is_enqueued_again(stage: Stage) -> None:
    run = killed_at(stage, "W1")
    assert state_of(stage, run).phase is RunPhase.DISPATCHED
    assert stage.task(run.task_id)["status"] == "queued"
    stage.start_worker("successor")
    stage.enqueue_again(run)
    assert isinstance(stage.outcome(run.run_id).fact, AttemptSucceeded)
    assert len([e for _, e in stage.events(run.run_id) if isinstance(e.fact, AttemptStarted)]) == 1


@pytest.mark.parametrize("window", ["W2", "W3"])
def test_a_claim_whose_worker_died_before_training_keeps_others_away(stage: Stage, window: str) -> None:
    run = killed_at(stage, window)
    state = state_of(stage, run)
    assert state.phase is RunPhase.STARTED
    assert stage.task(run.task_id)["status"] == "queued"
    successor_leaves_it_alone(stage, run)
    assert state_of(stage, run) == state


def test_w4_a_child_dies_with_its_worker_and_nobody_trains_on(stage: Stage) -> None:
    worker = stage.start_worker(TRAINYARD_FAILPOINT="W4:stop")
    run = stage.dispatch({**example("wine-flaml"), "time_budget_s": 30})
    process = psutil.Process(worker.popen.pid)
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the worker stands still in training")
    children = process.children(recursive=True)
    assert children
    worker.popen.kill()
    worker.popen.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert state_of(stage, run).phase is RunPhase.STARTED
    successor_leaves_it_alone(stage, run)
    assert state_of(stage, run).phase is RunPhase.STARTED


def test_w5_an_uploaded_model_without_an_outcome_lies_in_its_claim_s_own_path(stage: Stage) -> None:
    run = killed_at(stage, "W5")
    state = state_of(stage, run)
    assert state.phase is RunPhase.STARTED
    assert state.claim is not None
    path = attempt_path(run.run_id, 1, state.claim, "model.tar.gz")
    assert stage.clearml(lambda client: client.read_file(client.file_url(path)))
    other = attempt_path(run.run_id, 1, "0" * 32, "model.tar.gz")
    with pytest.raises(ClearMLRefused):
        stage.clearml(lambda client: client.read_file(client.file_url(other)))
    successor_leaves_it_alone(stage, run)


def test_w6_the_next_start_tells_clearml_what_the_log_knows(stage: Stage) -> None:
    run = killed_at(stage, "W6")
    before = state_of(stage, run)
    assert before.phase is RunPhase.ATTEMPT_SUCCEEDED
    assert stage.task(run.task_id)["status"] == "in_progress"
    successor = stage.start_worker()  # the same state folder, and so the same outbox
    stage.wait_status(run.task_id, "completed")
    assert state_of(stage, run) == before
    until(lambda: "outbox_depth 0.0" in successor.page("/metrics")[1], "nothing waits")
    outcomes = [e for _, e in stage.events(run.run_id) if e.type is EventType.ATTEMPT_SUCCEEDED]
    assert len({e.id for e in outcomes}) == 1
    assert successor.end() == 0


def test_an_outcome_in_the_outbox_of_a_dead_worker_is_delivered_by_its_next_start(stage: Stage) -> None:
    """The broker is away when training ends, and the worker is killed before it is back. The outcome names no model,
    as one of another version might: it is delivered all the same, and the worker goes on."""
    run = killed_at(stage, "W5")
    state = state_of(stage, run)
    event = stage.outcome_of(run, state, {"metric": "accuracy", "value": 1.0})
    stage.keep_in_outbox("worker", event)
    worker = stage.start_worker()
    fact: Any = stage.outcome(run.run_id).fact
    assert isinstance(fact, AttemptSucceeded)
    assert state_of(stage, run).phase is RunPhase.ATTEMPT_SUCCEEDED
    stage.wait_status(run.task_id, "completed")
    with contextlib.suppress(ClearMLRefused):
        stage.enqueue_again(run)
    assert state_of(stage, run).claim == state.claim
    assert worker.popen.poll() is None
    assert isinstance(stage.outcome(stage.dispatch(REQUEST).run_id).fact, AttemptSucceeded)
