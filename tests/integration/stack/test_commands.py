"""`trainyard up`, `status` and `down` as a program calls them: one JSON object on standard output, all else beside it.

The stack is real Kafka and the real embedded ClearML API; its services are stand-ins.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

SCRIPT = Path(__file__).with_name("run_command.py")
DEADLINE_S = 60.0
SERVICES = ["dispatcher", "trainer-worker", "stats"]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "TRAINYARD_HOME": str(home)}


def trainyard(home: Path, *arguments: str) -> tuple[Any, str]:
    """The one object on standard output, and what stands on standard error."""
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def foreground(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`trainyard up --json` in the foreground, in this test's home."""
    with (tmp_path / "stderr").open("w") as stderr:
        command = [sys.executable, str(SCRIPT), "up", "--json"]
        process = subprocess.Popen(
            command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=stderr, text=True, encoding="utf-8"
        )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def test_up_in_the_foreground_tells_one_object_once_all_is_ready_and_runs_on(
    foreground: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert foreground.stdout is not None
    assert select.select([foreground.stdout], [], [], DEADLINE_S)[0], (tmp_path / "stderr").read_text()
    document = json.loads(foreground.stdout.readline())
    assert list(document["services"]) == SERVICES
    assert all(service["ready"] for service in document["services"].values())
    assert foreground.poll() is None
    assert trainyard(tmp_path, "status", "--json")[0] == document
    assert "The stack is ready." in (tmp_path / "stderr").read_text()

    # What is on its way is told beside it, not in it.
    assert trainyard(tmp_path, "worker", "drain", "--json")[0] == {"drained": True}
    again, said = trainyard(tmp_path, "up", "--detach", "--json")
    assert "Starting again what was drained: trainer-worker." in said
    assert "The stack runs already." in said
    assert again == trainyard(tmp_path, "status", "--json")[0]
    assert again["services"].keys() == document["services"].keys()
    assert again["services"]["trainer-worker"]["ready"]

    assert "declared" not in said
    bootstrap, completed = document["kafka"]["bootstrap"], f"{document['kafka']['topic_prefix']}runs.completed"
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, completed, configs={"retention.ms": "-1"})])
    _, said = trainyard(tmp_path, "up", "--detach", "--json")
    assert f"Topic {completed} has retention.ms=-1; declared is " in said

    ended, said = trainyard(tmp_path, "down", "--json")
    assert ended == {"home": str(tmp_path), "stopped": True, "supervisor": foreground.pid, "services": SERVICES}
    assert said == ""
    assert foreground.wait(DEADLINE_S) == 0
    assert foreground.stdout.read() == ""


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    ended, _ = trainyard(tmp_path, "down", "--json")
    assert ended == {"home": str(tmp_path), "stopped": False, "supervisor": None, "services": []}
