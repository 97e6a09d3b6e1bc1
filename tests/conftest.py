"""What every test may ask for: a real Kafka broker, and a topic prefix of its own."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.behaviour.clearml.server import ClearMLServer, embedded_server, server_at
from tests.spreading import Spread
from tests.timing import measure_again

# A test that trains in its own process computes as the product's child does (trainyard_trainer_worker.training
# .environment): threads that spin while they wait would take the processors from everything else. Set before a test
# imports a library that reads them.
for name, value in {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
}.items():
    os.environ.setdefault(name, value)

# How long one example may take says something about the machine, not about the property.
hypothesis_settings.register_profile("trainyard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("trainyard")

TESTS = Path(__file__).parent
FASTEST_FIRST = ("unit", "contracts", "architecture", "behaviour", "integration", "e2e", "trainers", "faults")
"""The folders; the last two consist of single tests, which processes that are done with whole modules take."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kafka",
        default="embedded",
        metavar="embedded|testcontainers|HOST:PORT",
        help="the broker of the tests: our embedded one, a container, or one that runs already",
    )
    parser.addoption(
        "--clearml",
        default=None,
        metavar="URL",
        help="a ClearML API server that runs already, instead of the embedded one; its credentials and file server "
        "are read from CLEARML_API_ACCESS_KEY, CLEARML_API_SECRET_KEY and CLEARML_FILES_HOST",
    )


def _container_engine_answers() -> bool:
    """Ask where DOCKER_HOST says, or at the usual socket. (docker-py would leave its socket open on failure.)"""
    scheme, _, place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    host, _, port = place.partition(":")
    try:
        with socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET) as engine:
            engine.settimeout(3)
            engine.connect(place if scheme == "unix" else (host, int(port or 2375)))
            engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in engine.recv(64)
    except OSError:
        return False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Our way to spread tests over processes, in the place of whole modules."""
    return Spread(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The fast folders first; what took too long is measured again; what needs a container engine is deselected.

    It is not skipped where none answers, since nothing is missing there.
    """
    items.sort(key=_speed)
    measure_again(items)
    in_container = config.getoption("--kafka") == "testcontainers"
    needing = {
        item
        for item in items
        if item.get_closest_marker("testcontainers")
        or (in_container and "kafka_bootstrap" in getattr(item, "fixturenames", ()))
    }
    if needing and not _container_engine_answers():
        config.hook.pytest_deselected(items=list(needing))
        items[:] = [item for item in items if item not in needing]


def _speed(item: pytest.Item) -> tuple[bool, int]:
    """Sorts by folder, slow tests last; the order within a folder stays."""
    folder = item.path.relative_to(TESTS).parts[0]
    rank = FASTEST_FIRST.index(folder) if folder in FASTEST_FIRST else len(FASTEST_FIRST)
    return item.get_closest_marker("slow") is not None, rank


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a real broker, one for the whole session; topics are never created by themselves."""
    choice: str = request.config.getoption("--kafka")
    if choice == "embedded":
        from trainyard_devstack.kafka_broker import EmbeddedKafka

        with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), notify=print) as kafka:
            yield kafka.bootstrap
            from tests.contracts.tap import tap

            assert tap(kafka.bootstrap).broken == [], "our services wrote records that break their contracts"
    elif choice == "testcontainers":
        from testcontainers.community.kafka import KafkaContainer

        with KafkaContainer().with_kraft() as container:
            yield container.get_bootstrap_server()
    else:
        yield choice


@pytest.fixture
def topic_prefix() -> str:
    """A prefix (with its dot) that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}."


@pytest.fixture(scope="session")
def clearml_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClearMLServer]:
    """The ClearML server of the tests, one for the whole session: it may hold other tests' tasks and queues."""
    url: str | None = request.config.getoption("--clearml")
    if url is not None:
        yield server_at(url)
    else:
        with embedded_server(tmp_path_factory.mktemp("clearml")) as server:
            yield server
