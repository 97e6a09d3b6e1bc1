"""Slots side by side, and a worker that drains."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from tests.integration.trainer_worker.stage import Dispatched, Stage, example, until
from tests.timing import in_time
from trainyard_schemas.events import AttemptFailed, AttemptStarted, AttemptSucceeded, Event
from trainyard_schemas.vocabulary import Reason


def fitting(seconds: float) -> dict[str, Any]:
    return {**example("wine-flaml"), "time_budget_s": seconds}


def start_of(stage: Stage, run: Dispatched) -> Event | None:
    return next((e for _, e in stage.events(run.run_id) if isinstance(e.fact, AttemptStarted)), None)


def queued_tasks(stage: Stage) -> list[str]:
    queues = {queue.name: queue for queue in stage.clearml(lambda client: client.queues())}
    return [entry.task_id for entry in queues[stage.queue].entries]


def test_two_slots_train_at_once_and_show_as_two_workers_that_the_log_wakes(stage: Stage) -> None:
    worker = stage.start_worker(
        TRAINYARD_WORKER_SLOTS="2", TRAINYARD_WORKER_NAME=f"w-{stage.queue}", TRAINYARD_WORKER_POLL_S="300"
    )
    names = {f"w-{stage.queue}", f"w-{stage.queue}:1"}
    assert names <= {w["id"] for w in stage.clearml(lambda client: client.workers())}
    runs = [stage.dispatch(fitting(5)) for _ in range(3)]
    ends = [stage.outcome(run.run_id) for run in runs]
    assert all(isinstance(end.fact, AttemptSucceeded) for end in ends), ends
    starts = [start for run in runs if (start := start_of(stage, run)) is not None]
    assert {start.fact.worker for start in starts} == names  # type: ignore[attr-defined]
    assert max(start.time for start in starts[:2]) < min(end.time for end in ends[:2])
    assert starts[2].time >= min(end.time for end in ends[:2])
    assert "trainyard_worker_slots 2.0" in worker.page("/metrics")[1]
    assert worker.end() == 0
    assert not names & {w["id"] for w in stage.clearml(lambda client: client.workers())}


def test_sigusr1_lets_what_runs_finish_and_takes_no_more(stage: Stage) -> None:
    worker = stage.start_worker(TRAINYARD_WORKER_POLL_S="0.2")
    run = stage.dispatch(fitting(5))
    until(lambda: start_of(stage, run), "the run is claimed")
    worker.popen.send_signal(signal.SIGUSR1)
    until(lambda: worker.page("/readyz")[0] == 503, "it is no longer ready")
    assert json.loads(worker.page("/readyz")[1])["checks"]["work"] == "draining"
    later = stage.dispatch(fitting(1))
    assert worker.popen.wait(60) == 0
    assert isinstance(stage.outcome(run.run_id).fact, AttemptSucceeded)
    stage.wait_status(run.task_id, "completed")
    assert start_of(stage, later) is None
    assert queued_tasks(stage) == [later.task_id]


def test_an_idle_worker_that_drains_ends_at_once(stage: Stage) -> None:
    worker = stage.start_worker(TRAINYARD_WORKER_POLL_S="300", TRAINYARD_WORKER_SLOTS="2")
    assert worker.end(signal.SIGUSR1) == 0


def test_sigterm_gives_what_runs_the_time_to_drain(stage: Stage) -> None:
    worker = stage.start_worker(TRAINYARD_WORKER_DRAIN_S="120")
    run = stage.dispatch(fitting(5))
    until(lambda: start_of(stage, run), "the run is claimed")
    assert worker.end(signal.SIGTERM, 60) == 0
    assert isinstance(stage.outcome(run.run_id, 2).fact, AttemptSucceeded)
    assert stage.task(run.task_id)["status"] == "completed"


@pytest.mark.timed
@pytest.mark.patient
def test_what_has_not_finished_when_the_time_to_drain_is_over_ends_as_host_shutdown(stage: Stage) -> None:
    worker = stage.start_worker(TRAINYARD_WORKER_DRAIN_S="1.5")
    run = stage.dispatch(fitting(60))
    until(lambda: start_of(stage, run), "the run is claimed")
    at = time.monotonic()
    assert worker.end(signal.SIGTERM, 10) == 0
    took_s = time.monotonic() - at
    assert took_s > 1.5
    in_time(4.0, took_s)
    fact = stage.outcome(run.run_id, 2).fact
    assert isinstance(fact, AttemptFailed)
    assert fact.reason is Reason.HOST_SHUTDOWN
