"""The clients under `examples/clients`, run as their readers will; the production intake answers what they publish."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.submitter.story import completed, encoded, whole_life
from trainyard_dispatcher.intake import answer
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.async_log import LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.kafka.sync_client import SyncPublisher, SyncReader
from trainyard_schemas.events import RunAccepted, RunCompleted
from trainyard_schemas.ids import Origin, partition_of, run_id_from_event, run_id_from_key
from trainyard_schemas.topics import DEFAULT_PREFIX, RUN_PARTITIONS, TOPICS

EXAMPLES = Path(__file__).parents[3] / "examples"
SCHEMA_EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"
REQUEST = EXAMPLES / "requests" / "wine-sklearn.json"
KAFKAJS = "kafkajs@2.2.4"
SOURCE = "urn:example:nightly-training"


@pytest.fixture(scope="module")
def broker(kafka_bootstrap: str) -> str:
    """The examples name the topics as they are by default."""
    apply_topics(kafka_bootstrap, DEFAULT_PREFIX, TOPICS)
    return kafka_bootstrap


@pytest.fixture
def reader(broker: str) -> Iterator[SyncReader]:
    made = SyncReader(Address(broker))
    yield made
    made.close()


@pytest.fixture
def publisher(broker: str) -> Iterator[SyncPublisher]:
    made = SyncPublisher(Address(broker))
    yield made
    made.close()


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / "clients" / name), *arguments], stdout=subprocess.PIPE, text=True
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


@pytest.fixture(scope="module")
def node_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs for Node, and what they import."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node and npm: apt-get install nodejs npm")
    folder = tmp_path_factory.mktemp("node")
    for program in (EXAMPLES / "clients").glob("*.mjs"):
        shutil.copy(program, folder)
    subprocess.run(["npm", "install", "--silent", KAFKAJS], cwd=folder, check=True, timeout=120)
    return folder


@pytest.mark.parametrize("name", ["publish_structured.py", "publish_binary.py"])
def test_a_published_event_is_accepted_and_sent_twice_it_is_the_same_run(
    broker: str, reader: SyncReader, name: str
) -> None:
    event_id = uuid.uuid4().hex
    for _ in range(2):
        topic, partition, offset = finished(start(name, broker, str(REQUEST), event_id)).split()
        (record, *_) = reader.read_to_end({(topic, int(partition)): int(offset)})
        fact = answer(record, "default").fact
        assert isinstance(fact, RunAccepted)
        assert fact.run_id == run_id_from_event("default", SOURCE, event_id)
        assert fact.request["run_name"] == "wine-sklearn"


def test_the_librarys_example_submits_waits_and_prints_the_result(
    broker: str, reader: SyncReader, publisher: SyncPublisher
) -> None:
    key = uuid.uuid4().hex
    run_id = run_id_from_key("default", key)
    position = (f"{DEFAULT_PREFIX}runs.requested", partition_of(run_id, RUN_PARTITIONS))
    before = reader.ends([position])
    process = start("submit_with_library.py", broker, str(REQUEST), key)
    origin = _next(reader, before)
    for fact in whole_life(run_id, origin):
        value, headers = encoded(fact)
        topic = f"{DEFAULT_PREFIX}runs.lifecycle"
        publisher.publish(topic, value, headers, key=run_id.encode(), partition=position[1])
    shown = json.loads(finished(process))
    assert (shown["run_id"], shown["state"], shown["results"]["value"]) == (run_id, "completed", 0.9722)


def _next(reader: SyncReader, before: dict[tuple[str, int], int]) -> Origin:
    reader.assign(before)
    for _ in range(30):
        for record in reader.poll(1.0):
            return record.origin
    raise AssertionError("nothing was published")


def test_a_subscriber_prints_each_finished_run_once_and_goes_on_where_it_ended(
    broker: str, publisher: SyncPublisher
) -> None:
    run_id, group = run_id_from_key("default", uuid.uuid4().hex), uuid.uuid4().hex
    value, headers = encoded(completed(run_id))
    for _ in range(2):
        publisher.publish(f"{DEFAULT_PREFIX}runs.completed", value, headers, key=run_id.encode(), partition=0)
    golden = json.loads((SCHEMA_EXAMPLES / "run.completed" / "autogluon.json").read_bytes())["data"]
    run = golden["run_id"] = run_id_from_key("default", uuid.uuid4().hex)
    value, headers = encoded(RunCompleted.model_validate(golden))
    publisher.publish(f"{DEFAULT_PREFIX}runs.completed", value, headers, key=run.encode(), partition=0)
    lines = finished(start("subscribe_completed.py", broker, group, "20")).splitlines()
    shown = [json.loads(line) for line in lines]
    assert [line["run_id"] for line in shown].count(run_id) == 1
    results = golden["results"]
    (line,) = (line for line in shown if line["run_id"] == run)
    assert (line["metric"], line["value"], line["baseline"]) == ("roc_auc", results["value"], 0.5)
    assert line["model"].items() <= results["model"].items()
    assert line["artifacts"]["leaderboard"].endswith("leaderboard.csv")
    assert all(line[name] for name in ("dataset_sha256", "held_out_rows", "fit_seconds", "clearml_task", "cpu_seconds"))
    assert finished(start("subscribe_completed.py", broker, group, "6")) == ""


def test_a_client_for_node_publishes_and_another_reads_what_our_services_write(
    broker: str, reader: SyncReader, node_clients: Path
) -> None:
    def node(name: str, *arguments: str) -> str:
        command = ["node", str(node_clients / name), broker, *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout

    event_id = uuid.uuid4().hex
    topic, partition, offset = node("publish.mjs", str(REQUEST), event_id).split()
    (record, *_) = reader.read_to_end({(topic, int(partition)): int(offset)})
    fact = answer(record, "default").fact
    assert isinstance(fact, RunAccepted)
    assert fact.run_id == run_id_from_event("default", SOURCE, event_id)

    ends = [completed(run_id_from_key("default", uuid.uuid4().hex)) for _ in range(3)]

    async def write() -> None:
        writer = LogWriter(KafkaSettings(bootstrap=broker))
        for end in (*ends, ends[0]):
            value, headers = encoded(end)
            await writer.append(
                f"{DEFAULT_PREFIX}runs.completed", partition=1, key=end.run_id.encode(), value=value, headers=headers
            )
        await writer.stop()

    asyncio.run(write())
    group = uuid.uuid4().hex
    shown = [json.loads(line) for line in node("subscribe_completed.mjs", group, "5").splitlines()]
    states = [(line["run_id"], line["state"], line["value"]) for line in shown]
    assert [states.count((end.run_id, "completed", end.results["value"])) for end in ends] == [1, 1, 1]
    assert node("subscribe_completed.mjs", group, "3") == "", "it goes on where it ended"
