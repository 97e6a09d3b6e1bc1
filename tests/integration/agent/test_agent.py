"""Our tasks under an unmodified clearml-agent: real broker, real dispatcher, real agent process, no native worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.clearml.raw import Raw
from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.agent.agents import Agent, agent, daemon
from tests.integration.dispatcher.yard import Yard, until, yard_at
from tests.timing import in_time
from trainyard_schemas import events as ev
from trainyard_schemas.topics import TopicName

ROOT = Path(__file__).resolve().parents[3]
CANCELLED_WITHIN_S = 30.0
"""The fit has 300 s. With 20 processes in line for 2 cores the cancel took 13 s."""
WAIT_S = 150.0
SILENCE_S = "12"
"""Heartbeats come every 10 s at least, so 12 s of silence are a worker that is gone."""


@pytest.fixture
def yard(kafka_bootstrap: str, topic_prefix: str, clearml_server: ClearMLServer, tmp_path: Path) -> Iterator[Yard]:
    with yard_at(kafka_bootstrap, topic_prefix, clearml_server, tmp_path) as found:
        yield found


def environment(yard: Yard) -> dict[str, str]:
    """What whoever trains needs; an agent's ClearML credentials are in its `clearml.conf` only."""
    return {
        "TRAINYARD_KAFKA_BOOTSTRAP": yard.kafka.bootstrap,
        "TRAINYARD_TOPIC_PREFIX": yard.kafka.topic_prefix,
        "TRAINYARD_DATA_ROOTS": str(ROOT / "examples"),
        "TRAINYARD_WORKER_N_JOBS": "1",
    }


@contextmanager
def serving(yard: Yard, folder: Path, name: str = "agent-a") -> Iterator[Agent]:
    """An agent that serves the yard's queue."""
    with agent(yard.clearml, folder, name, *daemon(yard.queue), environment=environment(yard)) as found:
        yield found


@contextmanager
def native_worker(yard: Yard, queue: str) -> Iterator[None]:
    """Our own worker on another queue."""
    env = {**os.environ, **yard.clearml.environment(), **environment(yard)}
    command = [sys.executable, "-m", "trainyard_trainer_worker", "--queues", queue]
    with (yard.folder / "native.log").open("wb") as log, subprocess.Popen(command, env=env, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()


def body(name: str, **changes: Any) -> dict[str, Any]:
    """A request that ships under examples/."""
    request: dict[str, Any] = json.loads((ROOT / "examples" / "requests" / f"{name}.json").read_text())
    return request | changes


def facts(yard: Yard, run_name: str) -> list[ev.Fact]:
    """The facts that count of the run with this name, in order."""
    for events in yard.story().events.values():
        won = [event.fact for event, verdict in events if verdict.is_effective]
        if won and isinstance(won[0], ev.RunAccepted) and won[0].request.get("run_name") == run_name:
            return won
    return []


def wait_for(yard: Yard, run_name: str, kind: type[ev.Fact], agent: Agent | None, attempt: int = 1) -> Any:
    """The run's first fact of this kind; says what the agent printed where it does not come."""

    def found() -> ev.Fact | None:
        return next(
            (f for f in facts(yard, run_name) if isinstance(f, kind) and getattr(f, "attempt", attempt) == attempt),
            None,
        )

    try:
        return until(found, f"{run_name}: {kind.__name__}", WAIT_S)
    except AssertionError as problem:
        raise AssertionError(f"{problem}; the agent:\n{agent.log()[-3000:] if agent else ''}") from None


def console(raw: Raw, task_id: str) -> list[str]:
    """The lines of a task's console."""
    events = raw.ok("events.get_task_log", task=task_id, batch_size=500)["events"]
    return [line for event in events for line in event["msg"].splitlines()]


def test_a_run_under_an_agent_emits_the_events_of_a_native_worker(yard: Yard, raw: Raw, tmp_path: Path) -> None:
    raw.ok("queues.create", name=(other := f"{yard.queue}-native"))
    yard.start(TRAINYARD_SURVEY_EVERY_S="1")
    with serving(yard, tmp_path) as served, native_worker(yard, other):
        yard.submit(body("wine-sklearn", run_name="under the agent", queue=yard.queue))
        yard.submit(body("wine-sklearn", run_name="native", queue=other))
        wait_for(yard, "under the agent", ev.RunCompleted, served)
        wait_for(yard, "native", ev.RunCompleted, served)
        ours, native = facts(yard, "under the agent"), facts(yard, "native")
        assert [type(fact) for fact in ours] == [type(fact) for fact in native]
        started = next(fact for fact in ours if isinstance(fact, ev.AttemptStarted))
        assert started.worker == served.worker
        assert _results(ours) == _results(native)
        until(lambda: "exit status 0" in served.log(), "the agent is done with the task")
    task = raw.task(started.task_id)
    assert task["status"] == "completed"
    assert task["models"]["output"]
    said = [line for line in console(raw, started.task_id) if line.startswith("[trainyard] run ")]
    assert len(said) == 1, said


def _results(told: list[ev.Fact]) -> dict[str, Any]:
    """What must not differ: the shape of the results, and the score, which the seed fixes."""
    results = next(fact.results for fact in told if isinstance(fact, ev.AttemptSucceeded))
    return {"keys": sorted(results), "metric": results["metric"], "value": results["value"]}


@pytest.mark.timed
@pytest.mark.patient
def test_cancel_and_a_users_stop_end_the_run_and_its_processes(yard: Yard, raw: Raw, tmp_path: Path) -> None:
    yard.start(TRAINYARD_SURVEY_EVERY_S="1")
    with serving(yard, tmp_path) as served:
        yard.submit(body("wine-flaml", run_name="cancelled", time_budget_s=300, queue=yard.queue))
        started = wait_for(yard, "cancelled", ev.AttemptStarted, served)
        order = {"run_id": started.run_id, "command": "cancel", "actor": "alice", "message": "wrong data"}
        asked_at = time.monotonic()
        yard.publish(json.dumps(order).encode(), topic=TopicName.RUNS_COMMANDS)
        ended = wait_for(yard, "cancelled", ev.AttemptCancelled, served)
        in_time(CANCELLED_WITHIN_S, time.monotonic() - asked_at)
        assert (ended.claim, ended.message) == (started.claim, "cancelled by alice: wrong data")
        assert wait_for(yard, "cancelled", ev.RunCancelled, served).reason == "user"
        until(lambda: f"DONE: Running task '{started.task_id}'" in served.log(), "the agent is done with the task")
        assert raw.task(started.task_id)["status"] == "stopped"

        yard.submit(body("wine-flaml", run_name="stopped", time_budget_s=300, queue=yard.queue))
        started = wait_for(yard, "stopped", ev.AttemptStarted, served)
        raw.ok("tasks.stop_many", ids=[started.task_id], status_reason="a user's abort")
        ended = wait_for(yard, "stopped", ev.AttemptCancelled, served)
        assert ended.detail == "task_stopped"
        wait_for(yard, "stopped", ev.RunCancelled, served)
        until(lambda: f"DONE: Running task '{started.task_id}'" in served.log(), "the agent ended the process")
        until(lambda: raw.task(started.task_id)["status"] == "stopped", "the task stays as the user left it")
        assert len([f for f in facts(yard, "stopped") if isinstance(f, ev.AttemptStarted)]) == 1


def test_an_agent_that_dies_in_training_loses_the_attempt_to_the_next(yard: Yard, tmp_path: Path) -> None:
    yard.start(TRAINYARD_SURVEY_EVERY_S="1", TRAINYARD_LEASE_S="3", TRAINYARD_SILENCE_S=SILENCE_S)
    with serving(yard, tmp_path) as first:
        request = body("wine-flaml", run_name="two attempts", time_budget_s=300, queue=yard.queue)
        yard.submit(request | {"retry": {"max_attempts": 2, "backoff_s": 0}})
        started = wait_for(yard, "two attempts", ev.AttemptStarted, first)
        first.kill()
    assert wait_for(yard, "two attempts", ev.AttemptLost, first).claim == started.claim
    with serving(yard, tmp_path, "agent-b") as second:
        again = wait_for(yard, "two attempts", ev.AttemptStarted, second, attempt=2)
        assert (again.worker, again.task_id != started.task_id) == (second.worker, True)
