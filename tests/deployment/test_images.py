"""Every image, installed from its locked requirements in a plain environment and started by its own entry point.

No container engine is needed: what the Dockerfile installs, starts and asks for its health is read from the Dockerfile.
"""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.behaviour.clearml.server import ClearMLServer
from tests.deployment.compose import Deployment
from tests.deployment.image_environment import Image, Yard, configuration, free_port, running, told, until
from trainyard_runtime.kafka.admin import apply_topics, inspect_topics
from trainyard_schemas.topics import FOREIGN_TOPICS, TOPICS

pytestmark = pytest.mark.slow

TRAINERS = {"sklearn-trainer": "sklearn", "flaml-trainer": "flaml.automl", "autogluon-trainer": "autogluon.tabular"}
"""The trainers' services, and the module that each image is made for."""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return Yard(tmp_path_factory.mktemp("images"))


def answers(image: Image, told: dict[str, str]) -> bool:
    """Whether the image's own health check is content."""
    return subprocess.run(image.health_check(), env=told, capture_output=True, timeout=30, check=False).returncode == 0


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.parametrize("service", ["dispatcher", "clearml-serving-stats", *TRAINERS])
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
    with running(image.entry_point(), given, tmp_path / "run") as written:
        until(lambda: answers(image, given), written)
        until(lambda: is_ready(port), written)
    if service in TRAINERS:
        load_trainer(image, TRAINERS[service])


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
    command = [*image.entry_point(), *Deployment.of().services()["topics"]["command"]]
    for _ in range(2):
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert inspect_topics(kafka_bootstrap, topic_prefix, TOPICS, timeout_s=20).create == ()
    helped = subprocess.run(
        [*image.entry_point(), "submit", "--help"], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert helped.returncode == 0, helped.stderr


def test_the_agent_starts_with_the_mounted_configuration_and_takes_the_compose_files_arguments(
    yard: Yard, clearml_server: ClearMLServer, tmp_path: Path
) -> None:
    image = yard.install("clearml-agent")
    given = told(image, {**clearml_server.environment(), "HOME": str(tmp_path), **configuration()})
    script = ROOT / "infra" / "docker" / "clearml-agent-entrypoint.sh"
    helped = subprocess.run(
        ["sh", str(script), "--help"], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert helped.returncode == 0, helped.stderr
    flags = [word for word in Deployment.of().services()["clearml-agent-services"]["command"] if word.startswith("--")]
    assert [flag for flag in flags if flag not in helped.stdout] == []
