"""A setting that turns out to be unusable at the start ends a service as a wrong one does: 78, and its name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = ("dispatcher", "stats", "trainer_worker")
EXIT_CONFIGURATION = 78


def _end_of(service: str, **variables: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        "TRAINYARD_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "CLEARML_API_HOST": "http://127.0.0.1:1",
        "CLEARML_FILES_HOST": "http://127.0.0.1:1",
        "CLEARML_API_ACCESS_KEY": "key",
        "CLEARML_API_SECRET_KEY": "secret",
        "TRAINYARD_HTTP_PORT": "0",
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-m", f"trainyard_{service}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_state_folder_that_cannot_be_made_is_a_wrong_setting(service: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    status, said = _end_of(service, TRAINYARD_STATE_DIR=str(file))
    assert status == EXIT_CONFIGURATION, said
    assert "configuration: TRAINYARD_STATE_DIR" in said
    assert "Traceback" not in said


def test_a_damaged_outbox_is_a_matter_of_the_state_folder(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").write_bytes(b"no database" * 1_000)
    status, said = _end_of("trainer_worker", TRAINYARD_STATE_DIR=str(tmp_path))
    assert status == EXIT_CONFIGURATION, said
    assert "configuration: TRAINYARD_STATE_DIR" in said


@pytest.mark.parametrize("service", SERVICES)
def test_a_port_that_is_taken_is_a_wrong_setting(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = _end_of(service, TRAINYARD_HTTP_PORT=port)
    assert status == EXIT_CONFIGURATION, said
    assert f"configuration: TRAINYARD_HTTP_PORT {port} is taken" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("host", ["nowhere.invalid", "203.0.113.7", "a..b"])
def test_a_host_that_is_not_this_machine_is_a_wrong_setting(host: str) -> None:
    status, said = _end_of("stats", TRAINYARD_HTTP_HOST=host)
    assert status == EXIT_CONFIGURATION, said
    assert "configuration: TRAINYARD_HTTP_HOST" in said
    assert "Traceback" not in said


def test_a_deadline_without_end_is_refused() -> None:
    status, said = _end_of("trainer_worker", TRAINYARD_WORKER_DEADLINE_S="inf")
    assert status == EXIT_CONFIGURATION, said
    assert "TRAINYARD_WORKER_DEADLINE_S is wrong" in said
