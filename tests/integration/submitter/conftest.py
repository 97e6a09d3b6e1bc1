from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.behaviour.clearml.conftest import made, raw
from tests.behaviour.clearml.server import ClearMLServer
from tests.unit.submitter.story import encoded
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas import events as ev
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS
from trainyard_submitter import Client

__all__ = ["made", "raw"]  # fixtures of the ClearML contract suite, used here too

Append = Callable[[Sequence[ev.Fact]], None]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def prefix(kafka_bootstrap: str) -> str:
    """One set of topics for a module: runs do not meet, for each has an id of its own."""
    made = f"t{uuid.uuid4().hex[:10]}."
    apply_topics(kafka_bootstrap, made, TOPICS)
    return made


@pytest.fixture
def client(kafka_bootstrap: str, prefix: str) -> Iterator[Client]:
    with Client(kafka_bootstrap, topic_prefix=prefix) as made:
        yield made


@pytest.fixture
def append(kafka_bootstrap: str, prefix: str) -> Iterator[Append]:
    """Write facts as dispatcher and worker do: on the run's partition, under its key."""
    publisher = SyncPublisher(Address(kafka_bootstrap))

    def write(facts: Sequence[ev.Fact]) -> None:
        for fact in facts:
            value, headers = encoded(fact)
            name = "runs.heartbeats" if isinstance(fact, ev.AttemptHeartbeat) else "runs.lifecycle"
            publisher.publish(
                prefix + name,
                value,
                headers,
                key=fact.run_id.encode(),
                partition=partition_of(fact.run_id, RUN_PARTITIONS),
            )

    yield write
    publisher.close()


@pytest.fixture
def environment(kafka_bootstrap: str, prefix: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    return kept | {"TRAINYARD_KAFKA_BOOTSTRAP": kafka_bootstrap, "TRAINYARD_TOPIC_PREFIX": prefix}


@pytest.fixture
def trainyard(environment: dict[str, str]) -> Run:
    def run(*arguments: str, given: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trainyard_submitter", *arguments],
            input=given,
            env=environment | changes,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def clearml(clearml_server: ClearMLServer) -> dict[str, str]:
    """The ClearML server, as the command line is told about it."""
    return clearml_server.environment()
