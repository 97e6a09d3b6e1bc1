"""Killed where it hurts: between counting and its checkpoint, and before the checkpoint is acknowledged."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.structs import TopicPartition

from tests.faults.stats.campaign import run
from tests.integration.stats.serving import Sender, make_topic, replica, requests_by_url
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_schemas.topics import TOPICS


@pytest.mark.parametrize("window", ["Q1", "Q2"])
def test_killed_around_a_checkpoint_it_counts_everything_once(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path, window: str
) -> None:
    topic = f"{topic_prefix}foreign"
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    make_topic(kafka_bootstrap, topic, 1)
    sender, service = Sender(kafka_bootstrap, topic), replica(kafka_bootstrap, topic_prefix, tmp_path, topic)
    try:
        for hit in (1, 2):
            sender.some(20)
            service.start(TRAINYARD_FAILPOINT=f"{window}:kill@{hit}")
            while service.process is not None and service.process.poll() is None:
                sender.some(1)
            assert service.process is not None
            assert service.process.returncode == -signal.SIGKILL
        service.start()
        service.until(lambda: requests_by_url([service]) == sender.ledger, "exact", deadline_s=90)
    finally:
        service.kill()
        sender.close()


def test_no_counter_falls_when_a_replica_reads_again_what_was_shown_before_it_died(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    topic = f"{topic_prefix}foreign"
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    make_topic(kafka_bootstrap, topic, 1)
    sender, service = Sender(kafka_bootstrap, topic), replica(kafka_bootstrap, topic_prefix, tmp_path, topic)
    service.add(TRAINYARD_STATS_CHECKPOINT_S="600")
    try:
        sender.some(9_000, rows=1)
        service.start()
        service.until(lambda: requests_by_url([service]) == sender.ledger, "counted")
        service.end(signal.SIGKILL)
        service.start(TRAINYARD_FAILPOINT="Q1:sleep=0.4")  # a batch is 2,000 messages: it reads for some seconds
        shown: set[int] = set()

        def is_read_again() -> bool:
            shown.add(sum(requests_by_url([service]).values()))
            return 9_000 in shown

        service.until(is_read_again, "read again", deadline_s=60)
        assert shown == {0, 9_000}, "while it reads again it shows nothing"
    finally:
        service.kill()
        sender.close()


def test_what_retention_took_before_it_was_counted_is_reported_and_the_rest_is_counted(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    topic = f"{topic_prefix}foreign"
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    make_topic(kafka_bootstrap, topic, 1)
    sender, service = Sender(kafka_bootstrap, topic), replica(kafka_bootstrap, topic_prefix, tmp_path, topic)
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    try:
        sender.some(4)
        service.start()
        service.until(lambda: requests_by_url([service]) == sender.ledger, "counted")
        service.end(signal.SIGTERM)
        counted = sender.ledger.copy()
        sender.some(5)
        admin.delete_records({TopicPartition(topic, 0): 9})
        sender.ledger = counted
        sender.some(3)
        service.start()
        service.until(lambda: requests_by_url([service]) == sender.ledger, "what is left is counted", deadline_s=90)
        assert service.samples()["trainyard_serving_skipped_messages_total", "default", "0"] == 5
    finally:
        admin.close()
        service.kill()
        sender.close()


@pytest.mark.slow
def test_replicas_that_come_go_and_die_show_together_what_was_sent(kafka_bootstrap: str, tmp_path: Path) -> None:
    outcome = run(kafka_bootstrap, tmp_path, rows=20_000, kills=5, replicas=2, seed=3)
    assert outcome.rows >= 20_000
    assert outcome.is_exact, outcome.as_json()
    assert sum(outcome.kills.values()) == 5
