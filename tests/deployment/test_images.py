"""Every image, installed from its locked requirements in a plain environment and started by its own entry point.

No container engine is needed: what the Dockerfile installs, starts and asks for its health is read from the Dockerfile.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.behaviour.clearml.raw import Made, Raw
from tests.behaviour.clearml.server import ClearMLServer
from tests.deployment.compose_guards import AGENT_QUEUES, FOLDS_AGAIN
from tests.deployment.image_environment import Image, Yard, composed, configuration, free_port, running, told, until
from trainyard_dispatcher.settings import TASK_CONTAINER_ARGS
from trainyard_runtime.kafka.admin import apply_topics, inspect_topics
from trainyard_schemas.topics import FOREIGN_TOPICS, TOPICS

pytestmark = pytest.mark.slow

TRAINERS = {"sklearn-trainer": "sklearn", "flaml-trainer": "flaml.automl", "autogluon-trainer": "autogluon.tabular"}
"""The trainers' services, and the module that each image is made for."""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return Yard(tmp_path_factory.mktemp("images"))


def answers(image: Image, told: dict[str, str]) -> bool:
    """Whether the container's own health check is content."""
    return subprocess.run(image.health_check(), env=told, capture_output=True, timeout=30, check=False).returncode == 0


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.parametrize("service", ["dispatcher", "clearml-serving-stats", "gateway", *TRAINERS])
def test_a_service_becomes_healthy_and_ready_under_the_environment_that_compose_gives_it(
    yard: Yard,
    service: str,
    kafka_bootstrap: str,
    topic_prefix: str,
    clearml_server: ClearMLServer,
    tmp_path: Path,
) -> None:
    image = yard.install(service)
    apply_topics(kafka_bootstrap, topic_prefix, (*TOPICS, *FOREIGN_TOPICS))
    port = free_port()
    given = told(
        image,
        {
            **clearml_server.environment(),
            "TRAINYARD_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "CLEARML_DEFAULT_KAFKA_SERVE_URL": kafka_bootstrap,
            "TRAINYARD_TOPIC_PREFIX": topic_prefix,
            "TRAINYARD_HTTP_HOST": "127.0.0.1",
            "TRAINYARD_HTTP_PORT": str(port),
            "TRAINYARD_STATE_DIR": str(tmp_path / "state"),
            "TRAINYARD_DATA_ROOTS": str(ROOT / "examples"),
        },
    )
    assert not answers(image, given)
    with running(image.command(), given, tmp_path / "run") as written:
        until(lambda: answers(image, given), written)
        until(lambda: is_ready(port), written)
    if service in TRAINERS:
        load_trainer(image, TRAINERS[service])
    if composed(service).get("read_only"):
        made = {path.name for folder in (tmp_path, tmp_path / "run") for path in folder.iterdir()}
        assert made - {"run", "output.log"} == (set() if service in FOLDS_AGAIN else {"state"})


def load_trainer(image: Image, module: str) -> None:
    """The image holds what its trainer needs: its library, and everything that the adapter imports."""
    trainer = image.service.removesuffix("-trainer")
    code = (
        "import importlib, sys\n"
        "from trainyard_trainer_worker.trainers import available, load\n"
        "importlib.import_module(sys.argv[2])\n"
        "if sys.argv[1] in available(): load(sys.argv[1])\n"
    )
    done = subprocess.run(
        [str(image.python), "-c", code, trainer, module],
        env=image.environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_command_line_creates_the_topics_as_the_compose_file_asks_it_to(
    yard: Yard, kafka_bootstrap: str, topic_prefix: str
) -> None:
    image = yard.install("topics")
    given = told(image, {"TRAINYARD_KAFKA_BOOTSTRAP": kafka_bootstrap, "TRAINYARD_TOPIC_PREFIX": topic_prefix})
    for _ in range(2):
        done = subprocess.run(image.command(), env=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert inspect_topics(kafka_bootstrap, topic_prefix, TOPICS, timeout_s=20).create == ()
    helped = subprocess.run(
        [*image.entry_point(), "submit", "--help"], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert helped.returncode == 0, helped.stderr


@pytest.fixture(scope="module")
def agents(yard: Yard) -> Image:
    """The one image of all agents."""
    return yard.install("clearml-agent")


@pytest.fixture
def raw(clearml_server: ClearMLServer) -> Iterator[Raw]:
    caller = Raw(clearml_server)
    yield caller
    caller.http.close()


@pytest.fixture
def made(raw: Raw) -> Iterator[Made]:
    found = Made(raw)
    yield found
    found.clean()


@pytest.mark.parametrize("service", AGENT_QUEUES)
def test_an_agent_serves_its_queue_and_asks_docker_for_the_container_that_the_compose_file_says(
    agents: Image, service: str, clearml_server: ClearMLServer, raw: Raw, made: Made, tmp_path: Path
) -> None:
    """Docker is a program that notes how it was asked."""
    image = dataclasses.replace(agents, service=service)
    queue = made.name("queue").replace(" ", "-")
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    (home / ".clearml").mkdir(parents=True)
    temporary.mkdir()
    asked = tmp_path / "asked"
    given = told(
        image,
        {
            **clearml_server.environment(),
            **configuration(),
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "CLEARML_AGENT_DOCKER_HOST_MOUNT": f"/on/the/host:{home / '.clearml'}",
            "PATH": f"{note_docker(tmp_path / 'bin', asked)}{os.pathsep}{image.environment()['PATH']}",
        },
    )
    with running(image.command({AGENT_QUEUES[service]: queue}), given, tmp_path / "run") as written:
        until(lambda: serves(raw, given["CLEARML_WORKER_ID"], queue), written)
        container = {"image": "trainer:1", "arguments": TASK_CONTAINER_ARGS}
        task = made.task(container=container)
        raw.ok("tasks.enqueue", task=task, queue_name=queue)
        until(asked.exists, written)
    words = asked.read_text().split("\0")[:-1]
    options, command = words[: words.index("trainer:1")], words[words.index("trainer:1") + 1 :]
    assert {*given["CLEARML_AGENT_EXTRA_DOCKER_ARGS"].split(), *TASK_CONTAINER_ARGS.split()} <= set(options)
    mounted = [word.rpartition(":")[0] for word in options if word.endswith(":/tmp/clearml.conf")]
    assert [path.startswith("/on/the/host/") for path in mounted] == [True]
    assert ("--gpus" in options) == (service == "clearml-agent-gpu")
    assert command[:2] == ["bash", "-c"]
    assert f"-m clearml_agent execute --{'full' if '--services-mode' in image.command() else 'disable'}" in command[2]
    assert command[2].endswith(f"--id {task}")


def note_docker(folder: Path, asked: Path) -> Path:
    """A folder with a `docker` that starts nothing: `asked` holds the words of `docker run`, a NUL after each."""
    folder.mkdir()
    note = f"printf '%s\\0' \"$@\" > '{asked}.new' && mv '{asked}.new' '{asked}'"
    (folder / "docker").write_text(f'#!/bin/sh\nif [ "$1" = run ]; then {note}; fi\n')
    (folder / "docker").chmod(0o755)
    return folder


def serves(raw: Raw, worker: str, queue: str) -> bool:
    """Whether ClearML has heard of the worker, and that it serves this queue only."""
    found = [w for w in raw.ok("workers.get_all")["workers"] if w["id"] == worker]
    return [[served["name"] for served in w["queues"]] for w in found] == [[queue]]
