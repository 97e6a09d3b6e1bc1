"""The embedded broker as its users meet it: a real broker, started, stopped and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from tests.processes import has_ended
from trainyard_devstack.errors import ConfigurationError, DevstackError
from trainyard_devstack.kafka_broker import EmbeddedKafka


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "kafka"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _create_topic(bootstrap: str, name: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()


def _publish(bootstrap: str, topic: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topic, value).get(timeout=10)
    producer.close()


def _read_all(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    values: list[bytes] = []
    deadline = time.monotonic() + 15
    while len(values) < count and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=500).values():
            values.extend(record.value for record in records)
    consumer.close()
    return values


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while not has_ended(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.05)


def test_data_and_port_are_kept_between_starts(data_dir: Path) -> None:
    with EmbeddedKafka(data_dir) as first:
        bootstrap = first.bootstrap
        _create_topic(bootstrap, "kept")
        _publish(bootstrap, "kept", b"before the restart")
    with EmbeddedKafka(data_dir) as second:
        assert second.bootstrap == bootstrap
        _publish(bootstrap, "kept", b"after the restart")
        assert _read_all(bootstrap, "kept", 2) == [b"before the restart", b"after the restart"]


def test_a_folder_of_any_name_holds_all_data_and_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "José's back\\slash \U0001f682"
    for _ in range(2):
        with EmbeddedKafka(folder, log_path=tmp_path / "kafka.log"):
            pass
    assert (folder / "logs" / "meta.properties").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, "kafka.log"])


def test_a_broker_that_was_killed_comes_back_with_its_data(data_dir: Path) -> None:
    kafka = EmbeddedKafka(data_dir)
    bootstrap = kafka.start()
    _create_topic(bootstrap, "kept")
    _publish(bootstrap, "kept", b"acknowledged")
    assert kafka.process is not None
    kafka.process.send_signal(signal.SIGKILL)
    kafka.process.wait(10)
    try:
        assert kafka.start() == bootstrap
        assert _read_all(bootstrap, "kept", 1) == [b"acknowledged"]
    finally:
        kafka.stop()


def test_topics_are_never_created_by_a_clients_mistake(kafka_bootstrap: str, topic_prefix: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.describe_topics([f"{topic_prefix}misspelt"])
    assert f"{topic_prefix}misspelt" not in admin.list_topics()
    admin.close()


def test_stopping_leaves_no_process(data_dir: Path) -> None:
    kafka = EmbeddedKafka(data_dir)
    kafka.start()
    assert kafka.process is not None
    pid = kafka.process.pid
    kafka.stop()
    assert has_ended(pid)


def test_the_broker_ends_when_its_parent_is_killed(data_dir: Path) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from trainyard_devstack.kafka_broker import EmbeddedKafka\n"
        "kafka = EmbeddedKafka(pathlib.Path(sys.argv[1]))\n"
        "kafka.start()\n"
        "print(kafka.process.pid, flush=True)\n"
        "time.sleep(120)\n"
    )
    command = [sys.executable, "-c", script, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not has_ended(pid)
        parent.kill()
    _wait_until_gone(pid)


def test_a_wanted_port_that_is_taken_is_refused_by_name(data_dir: Path, taken_port: int) -> None:
    with pytest.raises(ConfigurationError, match=f"Port {taken_port} on 127.0.0.1 is taken"):
        EmbeddedKafka(data_dir, port=taken_port).start()


def test_a_kept_port_that_was_taken_meanwhile_is_replaced(data_dir: Path, taken_port: int) -> None:
    data_dir.mkdir()
    kept = f'{{"port": {taken_port}, "controller_port": 0}}'
    (data_dir / "ports.json").write_text(kept, encoding="utf-8")
    with EmbeddedKafka(data_dir) as kafka:
        assert kafka.bootstrap != f"127.0.0.1:{taken_port}"


def test_data_of_an_unknown_version_are_refused_with_the_remedy(data_dir: Path) -> None:
    with EmbeddedKafka(data_dir):
        pass
    meta = data_dir / "logs" / "meta.properties"
    meta.write_text(meta.read_text(encoding="utf-8").replace("version=1", "version=99"), encoding="utf-8")
    with pytest.raises(DevstackError, match="--fresh"):
        EmbeddedKafka(data_dir).start()


def test_a_data_folder_in_use_by_another_broker_is_refused(data_dir: Path) -> None:
    with EmbeddedKafka(data_dir) as first:
        second = EmbeddedKafka(data_dir)
        with pytest.raises(DevstackError, match="Another broker uses"):
            second.start()
        assert first.process is not None
        assert first.process.poll() is None


def test_a_disk_without_room_is_refused_before_the_start(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard_devstack.kafka_broker.MIN_FREE_BYTES", 2**60)
    with pytest.raises(DevstackError, match="free some space"):
        EmbeddedKafka(data_dir).start()
