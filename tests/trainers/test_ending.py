"""A training that is stopped, overruns, is killed, or loses its parent leaves no process behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.processes import has_ended
from tests.timing import in_time
from tests.trainers.conftest import EXAMPLES, Train, body
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_events import Phase, PhaseStarted, Progress
from trainyard_trainer_worker.child_process import TrainingChild
from trainyard_trainer_worker.spec import AttemptSpec, Outcome, Stopped

DATA = "examples/breast_cancer.csv"
LONG_FLAML = body("flaml", "diagnosis", "classification", "log_loss", uri=DATA, time_budget_s=300)
ENDLESS = {"num_boost_round": 10**7, "learning_rate": 1e-7, "ag.early_stop": 10**9}
LONG_AUTOGLUON = {
    **body("autogluon", "diagnosis", "classification", "log_loss", uri=DATA, time_budget_s=300),
    "extras": {"autogluon": {"fit_args": {"hyperparameters": {"GBM": [{"num_boost_round": 20}, ENDLESS]}}}},
}
LONG_SKLEARN = {
    **body("sklearn", "diagnosis", "classification", "log_loss", uri=DATA, time_budget_s=300),
    "extras": {"sklearn": {"estimator": "gradient_boosting", "params": {"n_estimators": 1_000_000}}},
}


def wait_until_gone(pids: list[int], limit_s: float) -> list[int]:
    deadline = time.monotonic() + limit_s
    alive = pids
    while alive and time.monotonic() < deadline:
        alive = [pid for pid in alive if not has_ended(pid)]
        time.sleep(0.01)
    return alive


def training_family(pids_of: Callable[[], list[int]], limit_s: float = 60.0) -> list[int]:
    """The pids of the training process and its verifier, which starts beside the fit and not before it."""
    deadline = time.monotonic() + limit_s
    while len(pids := pids_of()) < 2:
        assert time.monotonic() < deadline, f"the training process and its verifier: {pids}"
        time.sleep(0.01)
    return pids


def descendants(pid: int) -> list[int]:
    return [process.pid for process in psutil.Process(pid).children(recursive=True)]


@pytest.mark.timed
@pytest.mark.parametrize(
    "request_body", [LONG_FLAML, LONG_SKLEARN, LONG_AUTOGLUON], ids=["flaml", "sklearn", "autogluon"]
)
def test_a_stop_in_the_middle_of_a_fit_takes_less_than_two_seconds(
    tmp_path: Path, request_body: dict[str, object]
) -> None:
    spec = AttemptSpec("run", 1, "claim", request_body, str(tmp_path / "w"), (str(EXAMPLES),), 100.0, n_jobs=2)

    async def scenario() -> tuple[Outcome, float, list[int]]:
        child = await TrainingChild.start(spec)
        child.begin()
        fitting = False
        seconds = 0.0
        pids: list[int] = []
        async for event in child.events():
            fitting = fitting or event == PhaseStarted(Phase.FIT)
            if fitting and not pids and (isinstance(event, Progress) or request_body is LONG_SKLEARN):
                pids = training_family(lambda: [child.pid, *descendants(child.pid)])
                started = time.monotonic()
                await child.stop(Reason.USER)
                seconds = time.monotonic() - started
        return await child.outcome(), seconds, pids

    outcome, seconds, pids = asyncio.run(scenario())
    assert outcome == Stopped(Reason.USER)
    in_time(2, seconds)
    assert len(pids) == 2, "the training process and its verifier"
    assert wait_until_gone(pids, 2) == []


@pytest.mark.timed
def test_a_fit_beyond_the_deadline_is_ended(train: Train) -> None:
    trained = train(LONG_FLAML, deadline_s=4)
    assert (trained.failure.reason, trained.failure.detail) == (Reason.DEADLINE, "attempt_deadline")
    in_time(7, trained.seconds)


def test_a_killed_parent_takes_its_training_with_it(tmp_path: Path) -> None:
    spec = AttemptSpec("run", 1, "claim", LONG_FLAML, str(tmp_path / "w"), (str(EXAMPLES),), 100.0, n_jobs=2)
    script = (
        "import asyncio, json, sys\n"
        "from trainyard_trainer_worker.child_events import Phase, PhaseStarted\n"
        "from trainyard_trainer_worker.child_process import TrainingChild\n"
        "from trainyard_trainer_worker.spec import AttemptSpec\n"
        "async def main():\n"
        "    child = await TrainingChild.start(AttemptSpec.from_json(json.loads(sys.argv[1])))\n"
        "    child.begin()\n"
        "    async for event in child.events():\n"
        "        if event == PhaseStarted(Phase.FIT): print('fitting', flush=True)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, json.dumps(spec.to_json())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "fitting\n"
        pids = training_family(lambda: descendants(parent.pid))
        assert len(pids) == 2
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_until_gone(pids, 60) == []
