"""`trainyard topics` and the dispatcher's own start, as a person meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_schemas.topics import TOPICS


def trainyard(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from trainyard_submitter.cli import main; sys.exit(main())"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINYARD_", "CLEARML_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_topics_are_checked_created_and_found_as_declared(kafka_bootstrap: str, topic_prefix: str) -> None:
    env = {"TRAINYARD_KAFKA_BOOTSTRAP": kafka_bootstrap, "TRAINYARD_TOPIC_PREFIX": topic_prefix}
    before = trainyard("topics", "check", "--json", **env)
    assert before.returncode == 6, before.stderr
    assert len(json.loads(before.stdout)["missing"]) == len(TOPICS)
    made = trainyard("topics", "apply", **env)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("created") == len(TOPICS)
    after = trainyard("topics", "check", "--json", **env)
    assert after.returncode == 0, after.stdout
    assert json.loads(after.stdout) | {"unchanged": []} == {
        "missing": [],
        "unchanged": [],
        "differences": [],
        "refusals": [],
    }


@pytest.mark.parametrize("command", ["apply", "check"])
def test_without_a_broker_topics_ends_with_5_and_a_sentence(command: str) -> None:
    done = trainyard("topics", command, TRAINYARD_KAFKA_BOOTSTRAP="127.0.0.1:9")
    assert done.returncode == 5
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_settings_a_command_ends_with_78_and_the_variables_name() -> None:
    for command in (["topics", "check"], ["dispatcher"]):
        done = trainyard(*command)
        assert done.returncode == 78, done.stderr
        assert "TRAINYARD_KAFKA_BOOTSTRAP is not set" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRAINYARD_FAILPOINT", "D3:explode"), ("TRAINYARD_TOPIC_PREFIX", "yard"), ("CLEARML_API_HOST", "nonsense")],
)
def test_a_wrong_setting_stops_the_start_with_78_and_its_name(name: str, value: str) -> None:
    done = trainyard("dispatcher", **{"TRAINYARD_KAFKA_BOOTSTRAP": "127.0.0.1:9", name: value})
    assert done.returncode == 78, done.stderr
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_secret_is_in_nothing_that_the_dispatcher_writes(
    kafka_bootstrap: str, topic_prefix: str, clearml_server: ClearMLServer
) -> None:
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    env = {
        "TRAINYARD_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TRAINYARD_TOPIC_PREFIX": topic_prefix,
        "TRAINYARD_LOG_LEVEL": "debug",
        **clearml_server.environment(),
        "CLEARML_API_SECRET_KEY": "canary-secret-0123456789",
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINYARD_", "CLEARML_"))}
    command = [sys.executable, "-m", "trainyard_dispatcher"]
    with subprocess.Popen(command, env=clean | env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        written = ""
        for line in process.stderr:
            written += line
            if "routed queues are not there" in line:
                break
        process.terminate()
        written += process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert "refused with 401" in written
    assert "canary-secret" not in written
    assert all(json.loads(line) for line in written.splitlines())
