"""What every test may ask for: a real Kafka broker, and a topic prefix of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.behaviour.clearml.server import ClearMLServer, embedded_server, server_at


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
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=3)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need a container engine are deselected, not skipped, where none answers."""
    needing = [item for item in items if item.get_closest_marker("testcontainers")]
    if needing and not _container_engine_answers():
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a real broker, one for the whole session; topics are never created by themselves."""
    choice: str = request.config.getoption("--kafka")
    if choice == "embedded":
        from trainyard_devstack.kafka_broker import EmbeddedKafka

        with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), notify=print) as kafka:
            yield kafka.bootstrap
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
