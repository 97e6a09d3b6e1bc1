"""What happens to the log under the statistics: retention, a topic made anew, another count, a broker that is away."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from tests.integration.stats.conftest import COMPLETED, Publish, Service, append
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS, Topic, TopicName


@contextlib.contextmanager
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        yield client
    finally:
        client.close()


def partitions(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(RUN_PARTITIONS)]


def ends(bootstrap: str, topic: str) -> dict[TopicPartition, int]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        found: dict[TopicPartition, int] = consumer.end_offsets(partitions(topic))
        return found
    finally:
        consumer.close()


def test_records_that_retention_took_are_reported_and_the_rest_is_counted(
    service: Service, publish: Publish, kafka_bootstrap: str, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}runs.lifecycle"
    publish(COMPLETED, ["a"])
    service.start()
    service.until_ended(1)
    assert service.end(signal.SIGTERM) == 0  # it has stored what it counted
    publish(COMPLETED, ["b"])
    with admin(kafka_bootstrap) as client:
        client.delete_records(ends(kafka_bootstrap, topic))
    publish(COMPLETED, ["c"])
    service.start()
    service.until_ended(2)
    assert service.samples()["trainyard_stats_skipped_records",] == len(COMPLETED)


def test_a_topic_that_was_made_anew_is_counted_from_its_start(
    service: Service, publish: Publish, kafka_bootstrap: str, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}runs.lifecycle"
    publish(COMPLETED, ["a", "b", "c"])
    service.start()
    service.until_ended(3)
    with admin(kafka_bootstrap) as client:
        client.delete_topics([topic])
        service.until(lambda: topic not in client.list_topics(), "the topic is gone")
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    publish(COMPLETED, ["d"])
    service.until_ended(1, deadline_s=60.0)


def test_another_number_of_partitions_is_refused_with_a_sentence(
    service: Service, kafka_bootstrap: str, topic_prefix: str
) -> None:
    def three(topics: Sequence[Topic]) -> list[Topic]:
        return [Topic(t.name, 3, t.retention_ms, t.event_types, t.producers, t.consumers) for t in topics]

    apply_topics(kafka_bootstrap, topic_prefix, three([t for t in TOPICS if t.name is TopicName.RUNS_LIFECYCLE]))
    service.start()
    assert service.process is not None
    assert service.process.wait(timeout=60) == 1
    assert "has 3 partitions, not 12" in service.errors.read_text()


@pytest.mark.slow
def test_it_waits_for_a_broker_that_is_away_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka", notify=print) as kafka:
        apply_topics(kafka.bootstrap, "away.", TOPICS)
        append(kafka.bootstrap, "away.", COMPLETED, ["a"])
        service = Service(kafka.bootstrap, "away.", tmp_path / "state")
        service.start(TRAINYARD_STATS_RESYNC_S="1")
        try:
            service.until_ended(1)
            kafka.stop()
            service.until(lambda: service.get("/readyz")[0] == 503, "not ready without a broker", deadline_s=30.0)
            assert service.get("/healthz")[0] == 200
            assert service.samples()["trainyard_runs", "completed", "sklearn"] == 1
            kafka.start()
            append(kafka.bootstrap, "away.", COMPLETED, ["b"])
            service.until_ended(2, deadline_s=60.0)
            service.until(lambda: service.get("/readyz")[0] == 200, "ready again")
        finally:
            service.end(signal.SIGKILL)
