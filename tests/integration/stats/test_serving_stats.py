"""clearml-serving's statistics, counted by the service on a real broker."""

from __future__ import annotations

import contextlib
import json
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.behaviour.clearml.raw import Raw
from tests.behaviour.clearml.server import ClearMLServer
from tests.contracts.files import EXAMPLES
from tests.integration.stats.conftest import Service
from tests.integration.stats.serving import REQUESTS, Sender, make_topic, replica, requests_by_url
from tests.timing import in_time
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas.topics import TOPICS


@pytest.fixture
def topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    return f"{topic_prefix}foreign"


@pytest.fixture
def sender(kafka_bootstrap: str, topic: str) -> Iterator[Sender]:
    make_topic(kafka_bootstrap, topic, 2)
    made = Sender(kafka_bootstrap, topic)
    yield made
    made.close()


@pytest.fixture
def counting(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path, topic: str) -> Iterator[Service]:
    made = replica(kafka_bootstrap, topic_prefix, tmp_path, topic)
    yield made
    made.kill()


def until_counted(services: list[Service], sender: Sender, deadline_s: float = 60.0) -> None:
    services[0].until(
        lambda: requests_by_url(services) == sender.ledger, f"{sender.ledger} counted", deadline_s=deadline_s
    )


@pytest.mark.timed
def test_the_golden_messages_are_shown_within_a_second_and_in_both_formats(sender: Sender, counting: Service) -> None:
    counting.start()
    counting.until(lambda: counting.get("/readyz")[0] == 200, "ready")
    for path in sorted((EXAMPLES / "clearml_inference_stats").glob("*.json")):
        if path.stem != "sampled":
            sender.send(json.loads(path.read_bytes()))
    sent_at = time.monotonic()
    until_counted([counting], sender)
    in_time(2, time.monotonic() - sent_at)
    assert counting.get("/metrics")[1].count("trainyard_serving_latency_seconds_bucket{") >= 14
    asked = urllib.request.Request(
        f"http://127.0.0.1:{counting.port}/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
    )
    with urllib.request.urlopen(asked, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        read = text_string_to_metric_families(answer.read().decode())  # type: ignore[no-untyped-call]
        families = {family.name for family in read}
    assert {"trainyard_serving_latency_seconds", "trainyard_serving_failures", "trainyard_runs"} <= families


def test_bad_messages_are_counted_and_stop_nothing(sender: Sender, counting: Service) -> None:
    sender.some(3)
    for value in (b"", None, b"\xff", b"{}", b"[5]", b'[{"_url": "a", "_latency": NaN, "_count": 1}]'):
        sender.send_bytes(value)
    sender.some(3)
    counting.start()
    until_counted([counting], sender)

    def rejected() -> Counter[str]:
        found: Counter[str] = Counter()
        for key, value in counting.samples().items():
            if key[0] == "trainyard_serving_rejected_total":
                found[key[2]] += int(value)
        return +found

    one_each = ("message_not_json", "message_not_a_list", "row_not_an_object", "latency_invalid")
    counting.until(lambda: rejected() == {"message_empty": 2, **dict.fromkeys(one_each, 1)}, "the bad ones counted")


@pytest.mark.timed
def test_it_counts_what_came_before_it_and_while_it_was_dead_and_after_a_restart_exactly(
    sender: Sender, counting: Service
) -> None:
    sender.some(50)
    counting.start()
    until_counted([counting], sender)
    assert counting.end(signal.SIGKILL) == -signal.SIGKILL
    sender.some(50)
    counting.start()
    until_counted([counting], sender)
    began = time.monotonic()
    assert counting.end(signal.SIGTERM) == 0
    in_time(2, time.monotonic() - began)
    before = sender.ledger.copy()
    counting.start()
    until_counted([counting], sender)
    assert requests_by_url([counting]) == before


def test_two_replicas_share_the_partitions_and_their_sum_is_exact(
    sender: Sender, counting: Service, kafka_bootstrap: str, topic_prefix: str, topic: str, tmp_path: Path
) -> None:
    other = replica(kafka_bootstrap, topic_prefix, tmp_path / "other", topic)
    try:
        counting.start()
        sender.some(50)
        until_counted([counting], sender)
        other.start()
        other.until(lambda: bool(requests_by_url([other])), "the other one has a partition", deadline_s=90)
        sender.some(50)
        until_counted([counting, other], sender, deadline_s=90)
        assert requests_by_url([counting])
        assert other.end(signal.SIGKILL) == -signal.SIGKILL
        sender.some(20)
        until_counted([counting], sender, deadline_s=90)
    finally:
        other.kill()


def test_a_process_that_stood_still_longer_than_its_session_shows_nothing_that_another_one_counts(
    sender: Sender, counting: Service, kafka_bootstrap: str, topic_prefix: str, topic: str, tmp_path: Path
) -> None:
    other = replica(kafka_bootstrap, topic_prefix, tmp_path / "other", topic)
    try:
        counting.start()
        sender.some(30)
        until_counted([counting], sender)
        assert counting.process is not None
        counting.process.send_signal(signal.SIGSTOP)
        other.start()
        sender.some(30)
        until_counted([other], sender, deadline_s=60)
        counting.process.send_signal(signal.SIGCONT)
        together = requests_by_url([counting, other])
        assert all(together[url] <= sender.ledger[url] for url in together)
        sender.some(10)
        until_counted([counting, other], sender, deadline_s=90)
    finally:
        other.kill()


@pytest.fixture
def green(kafka_bootstrap: str, topic: str) -> Iterator[Sender]:
    """The sender of a second deployment, on a topic of its own."""
    make_topic(kafka_bootstrap, f"{topic}.green", 1)
    made = Sender(kafka_bootstrap, f"{topic}.green")
    yield made
    made.close()


def blue_and_green(counting: Service, topic: str, bootstrap: str, **more: str) -> None:
    counting.add(TRAINYARD_STATS_SERVING_SOURCES=f"blue={topic};green={topic}.green@{bootstrap}", **more)
    counting.start()


def test_deployments_are_told_apart_by_their_topics(
    sender: Sender, green: Sender, counting: Service, kafka_bootstrap: str, topic: str
) -> None:
    sender.some(2, urls=("a/1", "b"))
    green.some(3, urls=("b", "c"))
    assert sender.ledger != green.ledger
    blue_and_green(counting, topic, kafka_bootstrap)
    counting.until(lambda: requests_by_url([counting], "blue") == sender.ledger, f"blue: {sender.ledger}")
    counting.until(lambda: requests_by_url([counting], "green") == green.ledger, f"green: {green.ledger}")
    assert requests_by_url([counting]) == sender.ledger + green.ledger


def control_plane(server: ClearMLServer, metric_logging: str, frequency: str, **more: Any) -> str:
    """A control-plane task as clearml-serving keeps it; its id."""
    parameter = {"section": "General", "name": "metric_logging_freq", "value": frequency}
    made = Raw(server).ok(
        "tasks.create",
        name="serving",
        type="service",
        configuration={"metric_logging": {"name": "metric_logging", "value": metric_logging}},
        hyperparams={"General": {"metric_logging_freq": parameter}},
        **more,
    )
    return str(made["id"])


def test_each_deployment_is_counted_by_its_own_metric_logging(
    sender: Sender,
    green: Sender,
    counting: Service,
    kafka_bootstrap: str,
    topic: str,
    clearml_server: ClearMLServer,
    tmp_path: Path,
) -> None:
    task = control_plane(clearml_server, '{"m": {"metrics": {"x": {"type": "counter"}}}}', "0.1")
    file = tmp_path / "green.json"
    file.write_text('{"m": {"metrics": {"x": {"type": "enum", "buckets": [2, 3]}}}, "new/1": {"log_frequency": 1}}')
    blue_and_green(
        counting,
        topic,
        kafka_bootstrap,
        **clearml_server.environment(),
        CLEARML_SERVING_TASK_ID=f"blue={task}",
        TRAINYARD_STATS_METRIC_LOGGING_FILE=f"green={file}",
        TRAINYARD_STATS_CONFIG_POLL_S="1",
    )
    at_zero = (REQUESTS, "green", "new", "0", "1")
    counting.until(lambda: counting.samples().get(at_zero) == 0, "what green declares is shown before any traffic")
    rows = [{"_url": "m", "_latency": 0.1, "_count": 10, "x": 3}, {"_url": "plain", "_latency": 0.1, "_count": 10}]
    rows += [{"_url": "m", "_latency": 0.1, "_count": 1, "x": 2}]
    sender.send(rows, partition=0)
    green.send(rows)
    for deployment in ("blue", "green"):
        counting.until(lambda d=deployment: requests_by_url([counting], d).total() == 21, deployment)  # type: ignore[misc]
    found = {key: v for key, v in counting.samples().items() if key[0].startswith("trainyard_serving_") and v}
    assert found["trainyard_serving_counter_total", "blue", "m", "x", "0", ""] == 3 * 10 + 2
    assert found["trainyard_serving_enum_total", "green", "m", "x", "0", "3", ""] == 10
    assert found["trainyard_serving_enum_total", "green", "m", "x", "0", "2", ""] == 1
    custom = {key[:2] for key in found if key[0].endswith(("_counter_total", "_enum_total"))}
    assert custom == {("trainyard_serving_counter_total", "blue"), ("trainyard_serving_enum_total", "green")}
    assert not any(key[2] == "new" for key in counting.samples() if key[:2] == (REQUESTS, "blue"))
    file.write_text("{")
    is_used = "trainyard_serving_metric_logging_ok"
    counting.until(lambda: counting.samples()[is_used, "green"] == 0, "green's file is wrong now")
    assert counting.samples()[is_used, "blue"] == 1


def test_with_several_deployments_a_bare_value_is_refused_with_a_sentence(
    counting: Service, kafka_bootstrap: str, topic: str
) -> None:
    blue_and_green(counting, topic, kafka_bootstrap, CLEARML_SERVING_TASK_ID="f02d2321b87740de81eb3c4928d77899")
    assert counting.process is not None
    assert counting.process.wait(timeout=60) == 78
    assert "CLEARML_SERVING_TASK_ID is wrong" in counting.errors.read_text()
    assert "write blue=VALUE;green=VALUE" in counting.errors.read_text()


def test_custom_metrics_come_from_a_file_and_a_wrong_file_is_refused(
    sender: Sender, counting: Service, tmp_path: Path
) -> None:
    file = tmp_path / "metric_logging.json"
    file.write_text('{"a/1": {"metrics": {"x": {"type": "gauge"}}}}')
    counting.add(TRAINYARD_STATS_METRIC_LOGGING_FILE=str(file), TRAINYARD_STATS_CONFIG_POLL_S="1")
    counting.start()
    assert counting.process is not None
    assert counting.process.wait(timeout=60) == 78
    assert "metric_logging.a/1.metrics.x.type" in counting.errors.read_text()
    file.write_text('{"a/1": {"metrics": {"x": {"type": "counter"}}}}')
    counting.start()
    sender.send([{"_url": "a/1", "_latency": 0.1, "_count": 1, "x": 2.5}])
    name = ("trainyard_serving_counter_total", "default", "a", "x")
    counting.until(lambda: any(key[:4] == name for key in counting.samples()), "x is counted")
    is_used = ("trainyard_serving_metric_logging_ok", "default")
    file.write_text("{")
    counting.until(lambda: counting.samples().get(is_used) == 0, "the file is wrong now")
    file.write_text('{"a/1": {"metrics": {"x": {"type": "value"}}}}')
    counting.until(lambda: counting.samples().get(is_used) == 1, "the file is good again")


def test_custom_metrics_come_from_the_control_plane_task(
    sender: Sender, counting: Service, clearml_server: ClearMLServer
) -> None:
    written = (Path(__file__).parents[2] / "unit" / "stats" / "metric_logging.hocon").read_text()
    task = control_plane(clearml_server, written, "0.5")
    counting.add(**clearml_server.environment(), CLEARML_SERVING_TASK_ID=task, TRAINYARD_STATS_FLEET_POLL_S="1")
    counting.start()
    sender.send([{"_url": "ep_sk/1", "_latency": 0.1, "_count": 2, "x0": 3.0, "label": "pos"}])
    counting.until(
        lambda: any(
            key[0] == "trainyard_serving_enum_total" and value == 2 for key, value in counting.samples().items()
        ),
        "label=pos is counted, with the weight of one of two",
    )
    counting.until(lambda: counting.samples().get(("trainyard_clearml_up",)) == 1, "ClearML is asked")


def test_lags_of_groups_and_dead_letters_are_shown(
    sender: Sender, counting: Service, kafka_bootstrap: str, topic_prefix: str, topic: str
) -> None:
    dead_letters = f"{topic_prefix}runs.requested.dead-letter"
    with contextlib.closing(SyncPublisher(Address(kafka_bootstrap))) as publisher:
        for partition in (0, 3):
            publisher.publish(dead_letters, b"poison", (), key=b"x", partition=partition)
    counting.add(TRAINYARD_STATS_FLEET_POLL_S="1")
    sender.some(10)
    counting.start()
    until_counted([counting], sender)
    lag = ("trainyard_consumer_lag_records", f"{topic_prefix}stats-default", topic)
    counting.until(lambda: counting.samples().get(lag) == 0, "the group's committed offsets are the checkpoint's")
    assert counting.samples()["trainyard_dead_letters_total", dead_letters] == 2


@pytest.mark.timed
def test_idle_it_costs_nothing_and_stays_small(sender: Sender, counting: Service) -> None:
    sender.some(20)
    counting.start()
    until_counted([counting], sender)
    assert counting.process is not None
    measured = psutil.Process(counting.process.pid)
    before = measured.cpu_times()
    time.sleep(6)
    after = measured.cpu_times()
    in_time(6 * 0.03, after.user + after.system - before.user - before.system)
    assert measured.memory_info().rss < 100 * 1024 * 1024
