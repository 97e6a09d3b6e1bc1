"""ClearML is killed in the middle of an attempt, and comes back: tracking has gaps, the run has none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker.stage import Stage, example, staged, until
from tests.timing import in_time
from trainyard_schemas.events import AttemptFailed, AttemptSucceeded
from trainyard_schemas.topics import TopicName
from trainyard_schemas.vocabulary import Reason


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A ClearML server of this test's own, on ports that stay the same."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ports = (free_port(), free_port())
        api, files = (f"http://127.0.0.1:{port}" for port in self.ports)
        self.at = ClearMLServer(api, files, "an-access-key", "a-secret-key")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        api, files = self.ports
        command = [sys.executable, "-m", "trainyard_devstack.clearml_api", "--data", str(self.data)]
        self.process = subprocess.Popen(
            [*command, "--api-port", str(api), "--files-port", str(files)],
            env={**os.environ, **self.at.environment()},
            stderr=subprocess.DEVNULL,
        )
        until(self.answers, "the ClearML server answers")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.at.files}/", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as answer:
            answer.close()
            return True
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "clearml-data")
    found.data.mkdir()
    found.start()
    try:
        yield found
    finally:
        found.kill()


def test_a_clearml_server_that_is_killed_in_mid_training_costs_no_run(
    kafka_bootstrap: str, topic_prefix: str, server: Server, tmp_path: Path
) -> None:
    with staged(kafka_bootstrap, topic_prefix, server.at, tmp_path) as stage:
        worker = stage.start_worker()
        run = stage.dispatch({**example("wine-flaml"), "time_budget_s": 3})
        until(lambda: in_phase(stage, run.run_id, "fit"), "the fit began")
        server.kill()
        until(lambda: any(line.get("action") == "publish" for line in worker.log()), "publishing waits for ClearML", 60)
        assert worker.page("/readyz")[0] in (200, 503)
        server.start()
        fact = stage.outcome(run.run_id).fact
        assert isinstance(fact, AttemptSucceeded), fact
        stage.wait_status(run.task_id, "completed")
        again = stage.dispatch({**example("wine-sklearn"), "extras": {"sklearn": {"estimator": "logreg"}}})
        assert isinstance(stage.outcome(again.run_id).fact, AttemptSucceeded)


@pytest.mark.timed
@pytest.mark.patient
@pytest.mark.parametrize(("phase", "budget_s"), [("fit", 30), ("publish", 3)])
def test_a_worker_that_ends_while_clearml_stands_still_says_so_in_the_log_within_two_seconds(
    kafka_bootstrap: str, topic_prefix: str, server: Server, tmp_path: Path, phase: str, budget_s: int
) -> None:
    with staged(kafka_bootstrap, topic_prefix, server.at, tmp_path) as stage:
        worker = stage.start_worker()
        run = stage.dispatch({**example("wine-flaml"), "time_budget_s": budget_s})
        until(lambda: in_phase(stage, run.run_id, "fit"), "the fit began")
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        until(lambda: in_phase(stage, run.run_id, phase), "it came so far")
        at = time.monotonic()
        assert worker.end() == 0
        in_time(2.5, time.monotonic() - at)
        server.process.send_signal(signal.SIGCONT)
        fact = stage.outcome(run.run_id, 2).fact
        assert isinstance(fact, AttemptFailed)
        assert fact.reason is Reason.HOST_SHUTDOWN
        stage.start_worker()
        stage.wait_status(run.task_id, "failed")


def in_phase(stage: Stage, run_id: str, phase: str) -> bool:
    beats = stage.events(run_id, TopicName.RUNS_HEARTBEATS)
    return any(getattr(event.fact, "phase", "") == phase for _, event in beats)
