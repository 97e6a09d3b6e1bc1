"""The tap sees what our services write, and what breaks a contract: a tap that finds nothing proves nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.contracts.tap import tap
from tests.unit.schemas import histories as h
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas.events import encode_event, make_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS
from trainyard_schemas.vocabulary import EventType


def test_a_record_that_breaks_its_contract_is_found_and_a_good_one_is_not(tmp_path: Path) -> None:
    home = partition_of(h.RUN, RUN_PARTITIONS)
    good, headers = encode_event(make_event(h.dispatched(1), source="trainyard/dispatcher", writer="w", now=1.0))
    stranger, _ = encode_event(h.event(h.queued(1)))
    end, _ = encode_event(make_event(h.ended(EventType.RUN_FAILED), source="trainyard/dispatcher", writer="w", now=1.0))
    with EmbeddedKafka(tmp_path, notify=print) as kafka:
        apply_topics(kafka.bootstrap, "tap.", TOPICS)
        with contextlib.closing(SyncPublisher(Address(kafka.bootstrap))) as publisher:

            def put(value: bytes, topic: str = "runs.lifecycle", key: str = h.RUN, partition: int = home) -> None:
                publisher.publish(f"tap.{topic}", value, headers, key=key.encode(), partition=partition)

            put(good)
            put(b"\xff poison")
            put(stranger, partition=(home + 1) % RUN_PARTITIONS)
            put(end)
            put(end, "runs.completed")
            assert tap(kafka.bootstrap).broken == []
            assert tap(kafka.bootstrap).seen == {"attempt.dispatched": 1, "run.failed": 2}
            put(good, partition=(home + 1) % RUN_PARTITIONS)
            put(good, key="another key")
            put(good, "runs.completed")
            put(good.replace(b'"attempt":1', b'"attempt":0'))
            put(good.replace(b'"queue":"cpu"', b'"queue":"gpu"').replace(b'"task_id":"task-1-a"', b'"task_id":"x"'))
            put(good.replace(b'"image":""', b'"image":"","more":1'))
        sentences = [sentence.partition(": ")[2] for sentence in tap(kafka.bootstrap).broken]
    assert sorted(sentences) == [
        "$.attempt: 0 is less than the minimum of 1",
        "is no event of this topic",
        "it is not on its run's partition",
        "it is not written back as it was read",
        "its id is not its natural one",
        "its key is not its run_id",
    ]
