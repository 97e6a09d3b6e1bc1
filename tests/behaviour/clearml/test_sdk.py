"""The unchanged SDK works: what it wrote is what it reads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.clearml.raw import Made, Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient


def sdk(server: ClearMLServer, folder: Path, flow: str, name: str) -> dict[str, Any]:
    """Run a flow of sdk_flows.py with nothing of this machine's configuration, and outside of any git repository.

    Inside of one, the SDK's repository detection hung in 5 of 16 runs: it starts git while it forks its reporter.
    """
    configuration = folder / "clearml.conf"
    configuration.touch()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLEARML_", "TRAINS_"))}
    env = {**kept, **server.environment(), "HOME": str(folder), "CLEARML_CONFIG_FILE": str(configuration)}
    script = folder / "sdk_flows.py"
    shutil.copy(Path(__file__).with_name("sdk_flows.py"), script)
    done = subprocess.run(
        [sys.executable, str(script), flow, name], env=env, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for complaint in ("Failed parsing response", "Action failed", "Traceback"):
        assert complaint not in done.stdout + done.stderr, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


@pytest.fixture
def name(raw: Raw, made: Made) -> str:
    """A name for everything a flow makes by name: removed afterwards."""
    return made.name("sdk").replace(" ", "-")


def remove_named(raw: Raw, made: Made, name: str) -> None:
    """Hand over what the SDK made by name to the cleaner."""
    pattern = f"^{re.escape(name)}"
    made.queues += [one["id"] for one in raw.ok("queues.get_all", name=pattern, only_fields=["id"])["queues"]]
    made.tasks += [one["id"] for one in raw.ok("tasks.get_all", name=pattern, only_fields=["id"])["tasks"]]
    found = raw.ok("projects.get_all", name=pattern, only_fields=["id", "name"], search_hidden=True)["projects"]
    made.projects += [one["id"] for one in sorted(found, key=lambda one: len(one["name"]), reverse=True)]


def test_a_task_is_created_given_parameters_enqueued_found_and_cloned(
    clearml_server: ClearMLServer, raw: Raw, made: Made, tmp_path: Path, name: str
) -> None:
    answer = sdk(clearml_server, tmp_path, "create", name)
    remove_named(raw, made, name)
    assert answer["status"] == "queued"
    assert answer["entries"] == [answer["id"]]
    assert answer["found"] == [answer["id"]]
    assert answer["parameters"] == {"Run/run_id": name, "General/lr": "0.1"}
    assert answer["image"] == "python:3.11"
    assert answer["tags"] == ["automl"]
    assert answer["clone_parent"] == answer["id"]
    assert answer["clone_parameters"] == answer["parameters"]
    assert answer["clone_deleted"]
    assert answer["missing_deleted"] == []
    assert answer["status_after_dequeue"] == "created"


def test_the_rest_client_finds_what_the_sdk_created(
    clearml_server: ClearMLServer, raw: Raw, made: Made, tmp_path: Path, name: str
) -> None:
    created = sdk(clearml_server, tmp_path, "create", name)
    remove_named(raw, made, name)

    async def act(client: ClearMLClient) -> list[dict[str, Any]]:
        return await client.find_tasks_by_run([name])

    found = with_client(clearml_server, act)
    assert [one["id"] for one in found] == [created["id"]]
    assert not found[0].get("parent")


def test_the_api_client_makes_the_calls_of_a_worker(
    clearml_server: ClearMLServer, raw: Raw, made: Made, tmp_path: Path, name: str
) -> None:
    answer = sdk(clearml_server, tmp_path, "api", name)
    remove_named(raw, made, name)
    assert answer["entries"] == [answer["task"]]
    assert answer["popped"] == answer["task"]
    assert answer["status"] == "completed"
    assert answer["listed"] == [[answer["task"], "completed"]]
    assert answer["worker_shown"]
    assert answer["empty"] is None


@pytest.mark.slow
def test_a_run_reports_scalars_console_plots_artifacts_and_a_model_and_reads_them_again(
    clearml_server: ClearMLServer, raw: Raw, made: Made, tmp_path: Path, name: str
) -> None:
    answer = sdk(clearml_server, tmp_path, "train", name)
    remove_named(raw, made, name)
    assert answer["status"] == "completed"
    assert answer["parameters"] == {"General/lr": "0.1"}
    assert answer["configuration"] == {"trainer": "flaml"}
    assert answer["scalars"]["x"] == [0, 1, 2]
    assert answer["scalars"]["y"] == pytest.approx([1, 0.5, 1 / 3])
    assert answer["last"] == {"last": pytest.approx(1 / 3), "min": pytest.approx(1 / 3), "max": 1.0}
    assert answer["single"] == {"accuracy": 0.9}
    assert answer["console"]
    assert ["importance", "features"] in answer["plots"]
    assert answer["artifact"] == {"train": [1, 2], "test": [3]}
    assert answer["model_bytes"] == 7000
    assert answer["models_found"]
    assert answer["model_published"]
    assert answer["metadata"] == "0.9"
    assert answer["deleted"]
