"""One worker and its fork server through trainers that misbehave: each attempt fails with the right reason (or does
not), nothing of it is left, and the same worker trains the next run."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker import misbehaving_fork_server
from tests.integration.trainer_worker.misbehaving_fork_server import LINE, MISBEHAVIOURS, PRINTED_LINES
from tests.integration.trainer_worker.stage import Dispatched, Process, Stage, example, staged, until
from trainyard_schemas.events import AttemptFailed, AttemptSucceeded
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Detail
from trainyard_trainer_worker.usage import oom_kills

LIMIT_BYTES = 1 << 30
DEADLINE_OF_HANGING_S = 5.0
KILLED = Reason.OUT_OF_MEMORY if oom_kills() is None else Reason.TRAINER_ERROR


@pytest.fixture(scope="module")
def stage(
    kafka_bootstrap: str, clearml_server: ClearMLServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("misbehaving")
    with staged(kafka_bootstrap, f"t{uuid.uuid4().hex[:10]}.", clearml_server, folder) as found:
        yield found


@pytest.fixture(scope="module")
def worker(stage: Stage) -> Process:
    """A worker of one slot whose interpreter for scikit-learn is the planted one."""
    python = stage.folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {misbehaving_fork_server.__file__} "$@"\n')
    python.chmod(0o755)
    return stage.start_worker(
        TRAINYARD_TRAINER_PYTHONS=f"sklearn={python}",
        TRAINYARD_WORKER_PRELOAD="sklearn",
        TRAINYARD_WORKER_MEMORY_LIMIT_BYTES=str(LIMIT_BYTES),
    )


def request(**extras: Any) -> dict[str, Any]:
    own = {"estimator": "logreg", "feature_importance": False, **extras}
    return {**example("wine-sklearn"), "extras": {"sklearn": own}}


def misbehaving(stage: Stage, how: str, **changes: Any) -> tuple[Dispatched, Path]:
    """A run whose trainer misbehaves, and where it may note the numbers of the processes that it starts."""
    note = stage.folder / f"note-{uuid.uuid4().hex}"
    return stage.dispatch({**request(misbehave=how, note=str(note)), **changes}), note


def fork_servers(worker: Process) -> list[int]:
    """The numbers of the fork servers that this worker has started so far; no child was made without one."""
    assert "not forked" not in {line.get("event") for line in worker.log()}
    return [int(line["pid"]) for line in worker.log() if line.get("action") == "start_fork_server"]


def the_next_run_trains(stage: Stage, worker: Process, run: Dispatched) -> None:
    """The good run behind the bad one is trained by the same worker, whose fork server is the first one still, and has
    nobody left to look after."""
    assert isinstance(fact := stage.outcome(run.run_id).fact, AttemptSucceeded), fact
    assert worker.popen.poll() is None
    (server,) = map(psutil.Process, fork_servers(worker))
    assert server.ppid() == worker.popen.pid
    until(lambda: not server.children(recursive=True), "nothing of the trainings is left")


def console_of(stage: Stage, run: Dispatched) -> str:
    async def read(client: Any) -> Any:
        return await client.task_log(run.task_id)

    return "\n".join(str(event["msg"]) for event in stage.clearml(read))


FAILURES = {
    "raises": (
        Reason.TRAINER_ERROR,
        Detail.FIT_FAILED,
        "ValueError in phase fit: 'the planted trainer does not like the colours'",
    ),
    "exits 0": (Reason.TRAINER_ERROR, Detail.CHILD_DIED, "ended with status 0 and left no outcome"),
    "exits 7": (Reason.TRAINER_ERROR, Detail.CHILD_DIED, "ended with status 7 and left no outcome"),
    "asks to exit": (Reason.TRAINER_ERROR, Detail.CHILD_DIED, "it last said: 'SystemExit: 7'"),
    "is killed": (KILLED, Detail.CHILD_DIED, "SIGKILL"),
    "hangs": (Reason.DEADLINE, Detail.ATTEMPT_DEADLINE, "Raise deadline_s"),
    "allocates too much": (Reason.OUT_OF_MEMORY, Detail.MEMORY, f"ran out in phase fit (limit: {LIMIT_BYTES} bytes)"),
    "holds too much": (Reason.OUT_OF_MEMORY, Detail.MEMORY, f"the limit is {LIMIT_BYTES} bytes"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_trainer_that_misbehaves_fails_its_attempt_only(stage: Stage, worker: Process, how: str) -> None:
    limits = {"deadline_s": DEADLINE_OF_HANGING_S} if how == "hangs" else {}
    run, note = misbehaving(stage, how, **limits)
    following = stage.dispatch(request())
    fact = stage.outcome(run.run_id).fact
    assert isinstance(fact, AttemptFailed), fact
    reason, detail, message = FAILURES[how]
    assert (fact.reason, fact.detail) == (reason, detail), fact.message
    assert message in fact.message
    stage.wait_status(run.task_id, "failed")
    assert stage.task(run.task_id)["status_reason"] == reason.value
    the_next_run_trains(stage, worker, following)
    if how == "holds too much":
        pids = [int(pid) for pid in note.read_text().split()]
        assert len(pids) == 3
        until(lambda: not any(map(psutil.pid_exists, pids)), "the processes of the trainer are gone")


def test_what_a_trainer_leaves_in_a_session_of_its_own_is_gone_before_the_next_run(
    stage: Stage, worker: Process
) -> None:
    run, note = misbehaving(stage, "leaves a process")
    daemon = int(until(lambda: note.exists() and note.read_text(), "it has left a process"))
    process = psutil.Process(daemon)
    assert process.is_running()
    following = stage.dispatch(request())
    assert isinstance(fact := stage.outcome(run.run_id).fact, AttemptSucceeded), fact
    until(lambda: not process.is_running(), "the process is gone")
    the_next_run_trains(stage, worker, following)


def test_the_copy_of_a_trainer_that_forks_and_goes_on_twice_spoils_nothing(stage: Stage, worker: Process) -> None:
    run, _ = misbehaving(stage, "goes on twice")
    following = stage.dispatch(request())
    assert isinstance(fact := stage.outcome(run.run_id).fact, AttemptSucceeded), fact
    the_next_run_trains(stage, worker, following)
    ends = [event for _, event in stage.events(run.run_id) if isinstance(event.fact, AttemptSucceeded | AttemptFailed)]
    assert len(ends) == 1


def test_a_hundred_megabytes_of_output_are_cut_and_the_run_completes(stage: Stage, worker: Process) -> None:
    run, _ = misbehaving(stage, "prints")
    following = stage.dispatch(request())
    assert isinstance(fact := stage.outcome(run.run_id).fact, AttemptSucceeded), fact
    stage.wait_status(run.task_id, "completed")
    console = console_of(stage, run)
    (cut,) = re.findall(r"^\[(\d+) bytes of output were cut here\]$", console, re.MULTILINE)
    assert int(cut) > 0.9 * PRINTED_LINES * len(LINE)
    assert len(console) < 2 << 20
    assert "the planted trainer is through" in console
    assert "[trainyard] trained: accuracy" in console
    the_next_run_trains(stage, worker, following)


def test_every_planted_misbehaviour_is_seen() -> None:
    assert {*FAILURES, "leaves a process", "goes on twice", "prints"} == set(MISBEHAVIOURS)
