"""Topics come from the declaration: created when missing, reported when different, refused when lossy."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from trainyard_runtime.kafka.admin import (
    KafkaUnavailableError,
    LossyTopicsError,
    apply_topics,
    broker_answers,
    inspect_topics,
)
from trainyard_schemas.topics import TOPICS, Topic, TopicName, topic

LIFECYCLE = topic(TopicName.RUNS_LIFECYCLE)


def _admin(bootstrap: str) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=bootstrap)


def _create(bootstrap: str, name: str, configs: dict[str, str], partitions: int = LIFECYCLE.partitions) -> None:
    admin = _admin(bootstrap)
    options = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin.create_topics({name: options}, wait_for_metadata=True)
    admin.close()


def _describe(bootstrap: str, name: str) -> tuple[int, dict[str, str]]:
    admin = _admin(bootstrap)
    partitions = len(admin.describe_topics([name])[0]["partitions"])
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    configs = admin.describe_configs([resource], config_filter="all")["topic"][name]
    admin.close()
    return partitions, {key: entry["value"] for key, entry in configs.items()}


def _names(bootstrap: str) -> set[str]:
    admin = _admin(bootstrap)
    names = set(admin.list_topics())
    admin.close()
    return names


def test_every_declared_topic_is_created_as_declared(kafka_bootstrap: str, topic_prefix: str) -> None:
    report = apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    assert set(report.created) == {t.full_name(topic_prefix) for t in TOPICS}
    for declared in TOPICS:
        partitions, configs = _describe(kafka_bootstrap, declared.full_name(topic_prefix))
        assert partitions == declared.partitions
        assert configs["retention.ms"] == str(declared.retention_ms)
        assert {key: configs[key] for key in declared.config} == dict(declared.config)


@pytest.mark.parametrize("name", [TopicName.RUNS_REQUESTED, TopicName.RUNS_COMMANDS])
@pytest.mark.parametrize("age_s", [40 * 86_400, -86_400], ids=["of long ago", "of tomorrow"])
def test_what_anybody_publishes_is_kept_by_the_brokers_clock(
    kafka_bootstrap: str, topic_prefix: str, name: TopicName, age_s: float
) -> None:
    apply_topics(kafka_bootstrap, topic_prefix, [topic(name)])
    before_ms = time.time() * 1000
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    stated_ms = int(before_ms - age_s * 1000)
    acknowledged = producer.send(topic(name).full_name(topic_prefix), b"{}", timestamp_ms=stated_ms).get(timeout=30)
    producer.close()
    assert before_ms - 1_000 <= acknowledged.timestamp <= time.time() * 1000 + 1_000


def test_applying_twice_changes_nothing(kafka_bootstrap: str, topic_prefix: str) -> None:
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    report = apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    assert report.created == ()
    assert report.differences == ()
    assert set(report.unchanged) == {t.full_name(topic_prefix) for t in TOPICS}


def test_a_longer_retention_is_reported_and_left(kafka_bootstrap: str, topic_prefix: str) -> None:
    name = LIFECYCLE.full_name(topic_prefix)
    longer = str(LIFECYCLE.retention_ms * 2)
    _create(kafka_bootstrap, name, {"retention.ms": longer})
    report = apply_topics(kafka_bootstrap, topic_prefix, [LIFECYCLE])
    assert [(d.topic, d.key, d.declared, d.actual) for d in report.differences] == [
        (name, "retention.ms", str(LIFECYCLE.retention_ms), longer)
    ]
    assert _describe(kafka_bootstrap, name)[1]["retention.ms"] == longer


@pytest.mark.parametrize(
    ("partitions", "configs", "told"),
    [
        (3, {}, "has 3 partitions"),
        (12, {"cleanup.policy": "compact"}, "cleanup.policy=compact"),
        (12, {"cleanup.policy": "compact,delete", "retention.ms": "-1"}, "cleanup.policy=compact,delete"),
        (12, {"retention.ms": "3600000"}, "retention.ms=3600000"),
        (12, {"retention.ms": "-1", "retention.bytes": "1000000"}, "retention.bytes=1000000"),
        (12, {"retention.ms": "-1", "unclean.leader.election.enable": "true"}, "unclean.leader.election.enable=true"),
    ],
)
def test_a_lossy_topic_is_refused_and_nothing_is_created(
    kafka_bootstrap: str, topic_prefix: str, partitions: int, configs: dict[str, str], told: str
) -> None:
    name = LIFECYCLE.full_name(topic_prefix)
    _create(kafka_bootstrap, name, {"retention.ms": str(LIFECYCLE.retention_ms), **configs}, partitions)
    with pytest.raises(LossyTopicsError) as caught:
        apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    (refusal,) = caught.value.refusals
    assert refusal.startswith(name)
    assert told in refusal
    assert {n for n in _names(kafka_bootstrap) if n.startswith(topic_prefix)} == {name}


def test_a_compacted_topic_that_became_deleting_is_refused(kafka_bootstrap: str, topic_prefix: str) -> None:
    compacted: Topic = replace(LIFECYCLE, retention_ms=-1, config={"cleanup.policy": "compact"})
    _create(kafka_bootstrap, LIFECYCLE.full_name(topic_prefix), {"retention.ms": "-1"})
    with pytest.raises(LossyTopicsError, match="compact is declared"):
        apply_topics(kafka_bootstrap, topic_prefix, [compacted])


def test_for_ever_is_longer_than_any_retention(kafka_bootstrap: str, topic_prefix: str) -> None:
    name = LIFECYCLE.full_name(topic_prefix)
    _create(kafka_bootstrap, name, {"retention.ms": str(LIFECYCLE.retention_ms)})
    with pytest.raises(LossyTopicsError, match="for ever"):
        apply_topics(kafka_bootstrap, topic_prefix, [replace(LIFECYCLE, retention_ms=-1)])


def test_inspecting_tells_what_is_missing_and_creates_nothing(kafka_bootstrap: str, topic_prefix: str) -> None:
    plan = inspect_topics(kafka_bootstrap, topic_prefix, TOPICS)
    assert {t.name for t in plan.create} == {t.full_name(topic_prefix) for t in TOPICS}
    assert not {n for n in _names(kafka_bootstrap) if n.startswith(topic_prefix)}


def test_a_broker_that_is_not_there_is_told_in_a_sentence() -> None:
    assert not broker_answers("127.0.0.1:9", timeout_s=0.3)
    with pytest.raises(KafkaUnavailableError, match=r"Kafka at 127\.0\.0\.1:9"):
        apply_topics("127.0.0.1:9", "t.", TOPICS, timeout_s=0.3)
