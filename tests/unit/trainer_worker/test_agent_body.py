"""The body of a task under a clearml-agent: where it finds ClearML, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from trainyard_trainer_worker.agent_body import EXIT_STOPPED, exit_status
from trainyard_trainer_worker.agent_config import missing_variables
from trainyard_trainer_worker.protocol import Handled

API = {
    "api_server": "http://clearml:8008",
    "files_server": "http://clearml:8081",
    "credentials": {"access_key": "a-key", "secret_key": "a-secret"},
}


def test_what_the_environment_lacks_comes_from_the_agents_configuration() -> None:
    found = missing_variables(json.dumps({"api": API}), {"CLEARML_API_HOST": "http://mine:8008"})
    assert found == {
        "CLEARML_FILES_HOST": "http://clearml:8081",
        "CLEARML_API_ACCESS_KEY": "a-key",
        "CLEARML_API_SECRET_KEY": "a-secret",
    }


@pytest.mark.parametrize(
    "config", ["", "api { api_server: x }", "[]", '{"api": 1}', '{"api": {"credentials": 1, "api_server": 2}}']
)
def test_a_file_that_is_not_the_agents_says_nothing(config: str) -> None:
    assert missing_variables(config, {}) == {}


def test_only_an_attempt_that_is_certainly_over_ends_as_stopped() -> None:
    stopped = {handled for handled in Handled if exit_status(handled) == EXIT_STOPPED}
    assert stopped == {Handled.CANCELLED, Handled.SUPERSEDED}
    assert {exit_status(handled) for handled in Handled if handled not in stopped} == {0}


def test_without_a_task_it_ends_with_78_and_the_variables_name() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINYARD_", "CLEARML_"))}
    done = subprocess.run(
        [sys.executable, "-m", "trainyard_trainer_worker.agent_body"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert "CLEARML_TASK_ID is not set" in done.stderr
    assert "Traceback" not in done.stderr
