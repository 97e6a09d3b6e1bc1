"""The statistics service as a process, and a publisher of lives of runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

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
    h.ended(EventType.RUN_COMPLETED, 1),
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
            "TRAINYARD_STATS_SERVING_SOURCES": "none",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def add(self, **more: str) -> None:
        """Variables of every later start."""
        self._environment |= more

    def start(self, **more: str) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainyard_stats"], env=self._environment | more, stderr=errors
            )

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

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

    def until(self, condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
        give_up_at = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < give_up_at, f"not in time: {what}\n{self.errors.read_text()[-2000:]}"
            time.sleep(0.05)

    def until_ended(self, count: int, deadline_s: float = 60.0) -> None:
        name = ("trainyard_runs_ended_total", "", "completed", "sklearn")
        self.until(lambda: self.samples().get(name) == count, f"{count} runs ended", deadline_s)


@pytest.fixture
def service(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    made = Service(kafka_bootstrap, topic_prefix, tmp_path / "state")
    yield made
    made.kill()


def append(bootstrap: str, prefix: str, facts: Sequence[Fact], keys: Sequence[str]) -> None:
    """Write the facts of one run per key, as dispatcher and worker do."""
    publisher = SyncPublisher(Address(bootstrap))
    try:
        for key in keys:
            run_id = run_id_from_key("default", key)
            for fact in facts:
                value, headers = encode_event(h.event(fact.model_copy(update={"run_id": run_id}), now=time.time()))
                publisher.publish(
                    f"{prefix}runs.lifecycle",
                    value,
                    headers,
                    key=run_id.encode(),
                    partition=partition_of(run_id, RUN_PARTITIONS),
                )
    finally:
        publisher.close()


@pytest.fixture
def publish(kafka_bootstrap: str, topic_prefix: str) -> Publish:
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    return lambda facts, keys: append(kafka_bootstrap, topic_prefix, facts, keys)
