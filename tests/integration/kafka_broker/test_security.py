"""TLS and SASL: every client library of ours at a real broker that asks for them, and a run from end to end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.behaviour.clearml.server import ClearMLServer
from tests.faults.survival.conftest import SHORT, survival_at
from tests.integration.kafka_broker.secured import MECHANISMS, PASSWORD, SecuredKafka, secured_kafka
from tests.integration.stats.serving import Sender, make_topic, replica, requests_by_url
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas.topics import TOPICS, TopicName
from trainyard_stats.confluent.client import client_options

DOORS = [("SSL", "PLAIN"), *((door, how) for door in ("SASL_PLAINTEXT", "SASL_SSL") for how in MECHANISMS)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("secured") / "kafka") as found:
        yield found


@pytest.mark.parametrize(("door", "mechanism"), DOORS)
def test_every_client_library_passes_every_door(secured: SecuredKafka, door: str, mechanism: str) -> None:
    prefix = f"t{uuid.uuid4().hex[:10]}."
    variables = {**secured.environment(door, mechanism), "TRAINYARD_TOPIC_PREFIX": prefix}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        kafka = KafkaSettings()  # type: ignore[call-arg]
    assert len(apply_topics(kafka.address, prefix, TOPICS).created) == len(TOPICS)
    topic = kafka.topic(TopicName.RUNS_REQUESTED)
    publisher = SyncPublisher(kafka.address)
    try:
        origin = publisher.publish(topic, b"{}", (), key=b"k", partition=0)
    finally:
        publisher.close()

    async def work() -> list[bytes | None]:
        writer, reader = LogWriter(kafka), LogReader(kafka)
        try:
            await writer.append(topic, partition=0, key=b"k", value=b"[]", headers=())
            return [record.value for record in await reader.read_to_end(topic, 0, origin.offset)]
        finally:
            await writer.stop()
            await reader.stop()

    assert asyncio.run(work()) == [b"{}", b"[]"]
    assert topic in AdminClient(client_options(kafka)).list_topics(timeout=30).topics


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    return subprocess.run(
        [sys.executable, "-m", "trainyard_submitter", *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("topics", "apply"), ("runs", "list")])
def test_a_wrong_password_is_no_broker_and_is_not_printed(secured: SecuredKafka, arguments: tuple[str, ...]) -> None:
    done = command(*arguments, **secured.environment("SASL_SSL", password="wr0ng-canary"))
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert "wr0ng-canary" not in done.stdout + done.stderr


def test_a_run_is_trained_and_counted_behind_tls_and_scram(
    secured: SecuredKafka, clearml_server: ClearMLServer, tmp_path: Path
) -> None:
    prefix = f"t{uuid.uuid4().hex[:10]}."
    variables = {**secured.environment("SASL_SSL"), "TRAINYARD_TOPIC_PREFIX": prefix}
    assert command("topics", "apply", **variables).returncode == 0
    with survival_at(secured.plain, prefix, clearml_server, tmp_path) as survival:
        survival.yard.start(ready=True, **variables)
        survival.stage.start_worker(wait=True, **variables)
        request = tmp_path / "request.json"
        request.write_text(json.dumps({**SHORT, "queue": survival.yard.queue}))
        done = command("submit", str(request), "--wait", "--json", **variables)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["state"] == "completed"
        survival.ends_once("completed", attempts=1)
        make_topic(secured.plain, f"{prefix}foreign", 1)
        sender = Sender(secured.plain, f"{prefix}foreign")
        counting = replica(variables["TRAINYARD_KAFKA_BOOTSTRAP"], prefix, tmp_path, f"{prefix}foreign")
        counting.add(**variables)
        try:
            sender.some(10)
            counting.start()
            counting.until(lambda: requests_by_url([counting]) == sender.ledger, "the requests are counted")
            counting.until_ended(1)
        finally:
            counting.kill()
            sender.close()
        logs = [path.read_text() for path in (*tmp_path.glob("*.log"), counting.errors)]
        assert len(logs) >= 3
        assert not any(PASSWORD in text for text in logs)
