"""The statistics service as a process on a real broker: it counts while it runs, while it is dead, and once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.schemas import histories as h
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas.events import Fact, encode_event
from trainyard_schemas.ids import partition_of, run_id_from_key
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS
from trainyard_schemas.vocabulary import EventType

COMPLETED: tuple[Fact, ...] = (
    h.accepted(),
    h.dispatched(1),
    h.queued(1),
    h.started(1),
    h.succeeded(1),
    h.ended(EventType.RUN_COMPLETED),
)
Publish = Callable[[Sequence[Fact], Sequence[str]], None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`python -m trainyard_stats` as the supervisor starts it; its files stay between starts."""

    def __init__(self, bootstrap: str, prefix: str, state: Path) -> None:
        self.port = free_port()
        self.errors = state.parent / "stats.stderr"
        self._environment = {
            "PATH": os.environ["PATH"],
            "TRAINYARD_KAFKA_BOOTSTRAP": bootstrap,
            "TRAINYARD_TOPIC_PREFIX": prefix,
            "TRAINYARD_STATE_DIR": str(state),
            "TRAINYARD_HTTP_PORT": str(self.port),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainyard_stats"], env=self._environment | more, stderr=errors
            )

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=5)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def samples(self) -> dict[tuple[str, ...], float]:
        """Every sample by its name and its labels' values in the order of their names."""
        status, text = self.get("/metrics")
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in (text_string_to_metric_families(text) if status == 200 else ())
            for sample in family.samples
        }

    def until(self, condition: Callable[[], bool], what: str, deadline_s: float = 20.0) -> None:
        give_up_at = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < give_up_at, f"not in time: {what}\n{self.errors.read_text()[-2000:]}"
            time.sleep(0.05)

    def until_ended(self, count: int) -> None:
        name = ("trainyard_runs_ended_total", "", "completed", "sklearn")
        self.until(lambda: self.samples().get(name) == count, f"{count} runs ended, not {self.samples().get(name)}")


@pytest.fixture
def service(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    made = Service(kafka_bootstrap, topic_prefix, tmp_path / "state")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


@pytest.fixture
def publish(kafka_bootstrap: str, topic_prefix: str) -> Iterator[Publish]:
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    publisher = SyncPublisher(Address(kafka_bootstrap))

    def append(facts: Sequence[Fact], keys: Sequence[str]) -> None:
        for key in keys:
            run_id = run_id_from_key("default", key)
            for fact in facts:
                value, headers = encode_event(h.event(fact.model_copy(update={"run_id": run_id}), now=time.time()))
                publisher.publish(
                    f"{topic_prefix}runs.lifecycle",
                    value,
                    headers,
                    key=run_id.encode(),
                    partition=partition_of(run_id, RUN_PARTITIONS),
                )

    yield append
    publisher.close()


def test_runs_are_counted_as_they_come_and_after_a_restart_exactly(service: Service, publish: Publish) -> None:
    publish(COMPLETED, ["a", "b"])
    service.start()
    service.until(lambda: service.get("/readyz")[0] == 200, "ready")
    assert service.get("/healthz")[0] == 200
    service.until_ended(2)
    publish(COMPLETED[:4], ["c"])
    service.until(lambda: service.samples().get(("trainyard_runs", "started", "sklearn")) == 1, "c has started")
    assert service.end(signal.SIGKILL) == -signal.SIGKILL
    publish(COMPLETED[4:], ["c"])
    publish(COMPLETED, ["d"])
    publish(COMPLETED, ["a"])  # everything again: duplicates
    service.start()
    service.until_ended(4)
    found = service.samples()
    assert found["trainyard_runs", "completed", "sklearn"] == 4
    assert found["trainyard_runs", "started", "sklearn"] == 0
    assert found["trainyard_stats_lag_records",] == 0
    assert found["trainyard_run_phase_seconds_count", "total", "sklearn"] == 4
    assert service.end(signal.SIGTERM) == 0
    service.start()
    service.until(lambda: service.get("/readyz")[0] == 200, "ready again")
    after = service.samples()
    assert {k: v for k, v in after.items() if k[0].startswith(("trainyard_run", "trainyard_lifecycle"))} == {
        k: v for k, v in found.items() if k[0].startswith(("trainyard_run", "trainyard_lifecycle"))
    }


@pytest.mark.parametrize("window", ["P1", "P2"])
def test_killed_around_its_checkpoint_it_counts_once(service: Service, publish: Publish, window: str) -> None:
    publish(COMPLETED, ["a"])
    service.start(TRAINYARD_FAILPOINT=f"{window}:kill@1")
    assert service.process is not None
    assert service.process.wait(timeout=20) == -signal.SIGKILL
    publish(COMPLETED, ["b"])
    service.start()
    service.until_ended(2)
    assert service.samples()["trainyard_lifecycle_records_total", "won"] == 10


def test_poison_is_counted_and_stops_nothing(
    service: Service, publish: Publish, kafka_bootstrap: str, topic_prefix: str
) -> None:
    publish(COMPLETED, ["a"])
    with contextlib.closing(SyncPublisher(Address(kafka_bootstrap))) as publisher:
        for value in (b"", b"\xff\xfe", b"[]", b'{"specversion":"1.0"}'):
            publisher.publish(f"{topic_prefix}runs.lifecycle", value, (), key=b"x", partition=0)
    service.start()
    service.until(
        lambda: service.samples().get(("trainyard_lifecycle_records_total", "unreadable")) == 4, "4 unreadable ones"
    )
    publish(COMPLETED, ["b"])
    service.until_ended(2)


def test_it_waits_for_topics_that_do_not_exist_yet(service: Service, kafka_bootstrap: str, topic_prefix: str) -> None:
    service.start()
    service.until(lambda: service.get("/healthz")[0] == 200, "alive")
    status, body = service.get("/readyz")
    assert status == 503
    assert '"ready": false' in body
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    service.until(lambda: service.get("/readyz")[0] == 200, "ready")


def test_it_ends_within_two_seconds_and_is_small_and_idle(service: Service, publish: Publish) -> None:
    publish(COMPLETED, ["a"])
    service.start()
    service.until_ended(1)
    assert service.process is not None
    measured = psutil.Process(service.process.pid)
    before = measured.cpu_times()
    time.sleep(4)
    after = measured.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    assert used_s / 4 < 0.02
    assert measured.memory_info().rss < 70 * 1024 * 1024
    began = time.monotonic()
    assert service.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 2


def test_wrong_settings_end_it_with_78_and_a_sentence(kafka_bootstrap: str) -> None:
    environment = {"PATH": os.environ["PATH"], "TRAINYARD_STATS_RESYNC_S": "-1"}
    done = subprocess.run(
        [sys.executable, "-m", "trainyard_stats"], env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 78
    assert "TRAINYARD_STATS_RESYNC_S" in done.stderr
