"""The statistics service as a process on a real broker: it counts while it runs, while it is dead, and once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.integration.stats.conftest import COMPLETED, Publish, Service
from tests.timing import in_time
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas.topics import TOPICS


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
    assert service.process.wait(timeout=60) == -signal.SIGKILL
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


@pytest.mark.timed
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
    in_time(4 * 0.02, used_s)
    assert measured.memory_info().rss < 70 * 1024 * 1024
    began = time.monotonic()
    assert service.end(signal.SIGTERM) == 0
    in_time(2, time.monotonic() - began)


def test_wrong_settings_end_it_with_78_and_a_sentence(kafka_bootstrap: str) -> None:
    environment = {"PATH": os.environ["PATH"], "TRAINYARD_STATS_RESYNC_S": "-1"}
    done = subprocess.run(
        [sys.executable, "-m", "trainyard_stats"], env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 78
    assert "TRAINYARD_STATS_RESYNC_S" in done.stderr
