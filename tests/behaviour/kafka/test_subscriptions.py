"""Subscriptions on a real broker: nothing is lost, nothing is committed before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Producer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from kafka import KafkaProducer

from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.faststream_broker import Subscription, UnsafeSubscriptionError, refuse_unsafe
from trainyard_runtime.kafka.records import Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.topics import TOPICS, TopicName


@pytest.fixture
def kafka(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    return KafkaSettings(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix)


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - it waits for whatever the test looks at
            await asyncio.sleep(0.02)


class Collector:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failures: list[BaseException] = []

    async def __call__(self, records: Sequence[Record]) -> None:
        self.records += records

    def subscription(self, kafka: KafkaSettings, name: TopicName = TopicName.RUNS_REQUESTED) -> Subscription:
        return Subscription(kafka, kafka.topic(name), self, group=kafka.group("g"), on_failure=self.failures.append)


def test_records_before_the_first_start_and_odd_headers_all_arrive(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.RUNS_REQUESTED)
        writer, collector = LogWriter(kafka), Collector()
        await writer.append(topic, partition=2, key=None, value=b"early")
        await writer.append(topic, partition=2, key=b"\xff", value=None, headers=[("a", None), ("a", b"\xff\xfe")])
        subscription = collector.subscription(kafka)
        await subscription.start()
        try:
            await until(lambda: len(collector.records) == 2)
            await writer.append(topic, partition=7, key=None, value=b"late")
            await until(lambda: len(collector.records) == 3)
        finally:
            await subscription.stop()
            await writer.stop()
        early, odd, late = collector.records
        assert (early.value, late.value, late.partition) == (b"early", b"late", 7)
        assert (odd.key, odd.value, odd.headers) == (b"\xff", None, (("a", None), ("a", b"\xff\xfe")))
        assert collector.failures == []

    asyncio.run(scenario())


class _NotUtf8(str):
    """A header's name as a client in another language may write it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


def test_a_header_whose_name_is_not_utf8_is_stood_in_for_and_stops_nobody(kafka: KafkaSettings) -> None:
    name = TopicName.RUNS_REQUESTED_DEAD_LETTER  # any topic: at the session's end a client reads the run topics
    topic = kafka.topic(name)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for partition in (0, 1):
        for value, headers in ((b"before", []), (b"bad", [(_NotUtf8("x"), b"v")]), (b"after", [])):
            producer.send(topic, value, partition=partition, headers=headers).get(10)
    producer.close()

    async def scenario() -> None:
        collector, reader = Collector(), LogReader(kafka)
        subscription = collector.subscription(kafka, name)
        await subscription.start()
        await until(lambda: len(collector.records) == 6)
        assert await subscription.commit({(topic, 0): 3, (topic, 1): 3})
        await subscription.stop()
        for partition in (0, 1):
            mine = [record for record in collector.records if record.partition == partition]
            assert [(record.offset, record.value) for record in mine] == [(0, b"before"), (1, None), (2, b"after")]
            assert ["UTF-8" in record.unreadable for record in mine] == [False, True, False]
        assert [record.value for record in await reader.read_to_end(topic, 0, 0)] == [b"before", b"after"]
        await reader.stop()
        assert collector.failures == []

    asyncio.run(scenario())


def test_what_was_not_committed_comes_again_and_what_was_does_not(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.RUNS_REQUESTED)
        writer = LogWriter(kafka)
        for value in (b"0", b"1", b"2"):
            await writer.append(topic, partition=0, key=None, value=value)
        await writer.append(topic, partition=1, key=None, value=b"other")
        first = Collector()
        subscription = first.subscription(kafka)
        await subscription.start()
        await until(lambda: len(first.records) == 4)
        assert await subscription.commit({(topic, 0): 2})
        await subscription.stop()

        second = Collector()
        subscription = second.subscription(kafka)
        await subscription.start()
        await until(lambda: len(second.records) >= 2)
        await subscription.stop()
        await writer.stop()
        assert sorted(record.value or b"" for record in second.records) == [b"2", b"other"]

    asyncio.run(scenario())


def test_after_a_handler_failed_nothing_more_is_read_and_somebody_is_told(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.RUNS_REQUESTED)
        seen: list[bytes | None] = []
        failures: list[BaseException] = []

        async def failing(records: Sequence[Record]) -> None:
            seen.extend(record.value for record in records)
            raise ZeroDivisionError("bug")

        writer = LogWriter(kafka)
        subscription = Subscription(kafka, topic, failing, group=kafka.group("g"), on_failure=failures.append)
        await subscription.start()
        await writer.append(topic, partition=0, key=None, value=b"one")
        await until(lambda: bool(failures))
        await writer.append(topic, partition=0, key=None, value=b"two")
        await asyncio.sleep(0.5)
        await subscription.stop()
        await writer.stop()
        assert seen == [b"one"]
        assert [type(failure) for failure in failures] == [ZeroDivisionError]

    asyncio.run(scenario())


def test_a_subscription_without_a_group_starts_where_it_is_told(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.RUNS_LIFECYCLE)
        writer, collector = LogWriter(kafka), Collector()
        for value in (b"0", b"1", b"2"):
            await writer.append(topic, partition=4, key=None, value=value)
        start_at = {(topic, partition): 2 if partition == 4 else 0 for partition in range(12)}
        subscription = Subscription(kafka, topic, collector, start_at=start_at, on_failure=collector.failures.append)
        await subscription.start()
        try:
            await until(lambda: len(collector.records) == 1)
            await writer.append(topic, partition=0, key=None, value=b"new")
            await until(lambda: len(collector.records) == 2)
        finally:
            await subscription.stop()
            await writer.stop()
        assert [record.value for record in collector.records] == [b"2", b"new"]
        assert len(subscription.assignment) == 12

    asyncio.run(scenario())


def test_one_partition_has_one_owner_and_its_end_makes_another_one_the_owner(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.PLANNER_LEAD)
        changes: dict[str, list[bool]] = {"a": [], "b": []}
        members = {
            name: Subscription(
                kafka,
                topic,
                Collector(),
                group=kafka.group("planner"),
                on_failure=lambda error: None,
                on_assignment=lambda assigned, name=name: changes[name].append(bool(assigned)),  # type: ignore[misc]
            )
            for name in ("a", "b")
        }
        await members["a"].start()
        await until(lambda: bool(members["a"].assignment))
        await members["b"].start()
        await until(lambda: bool(changes["b"]))
        await until(lambda: bool(members["a"].assignment) != bool(members["b"].assignment))
        owner, other = ("a", "b") if members["a"].assignment else ("b", "a")
        await members[owner].stop()
        await until(lambda: bool(members[other].assignment))
        await members[other].stop()

    asyncio.run(scenario())


def test_a_group_is_given_what_transactions_committed_and_the_others_wait_for_those_that_are_open(
    kafka: KafkaSettings,
) -> None:
    topic = kafka.topic(TopicName.RUNS_REQUESTED)

    def transaction(name: str) -> Producer:
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": kafka.topic_prefix + name})
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(topic, partition=1, value=name.encode())
        producer.flush(30)
        return producer

    def plain(value: bytes) -> None:
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce(topic, partition=1, value=value)
        producer.flush(30)

    async def scenario() -> None:
        transaction("aborted").abort_transaction(30)
        plain(b"first")
        transaction("committed").commit_transaction(30)
        is_open = transaction("open")
        plain(b"behind it")
        reader, collector = LogReader(kafka), Collector()
        subscription = collector.subscription(kafka)
        await subscription.start()
        try:
            await until(lambda: len(collector.records) == 2)
            assert [record.value for record in collector.records] == [b"first", b"committed"]
            stable = (await reader.stable_offsets(topic))[1]
            assert stable < (await reader.end_offsets(topic))[1]
            async with asyncio.timeout(30):
                while (await subscription.positions())[topic, 1] < stable:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            is_open.abort_transaction(30)
            await until(lambda: len(collector.records) == 3)
            assert collector.records[-1].value == b"behind it"
            assert (await reader.stable_offsets(topic)) == (await reader.end_offsets(topic))
        finally:
            await subscription.stop()
            await reader.stop()
        assert collector.failures == []

    asyncio.run(scenario())


def test_faststreams_own_defaults_are_refused() -> None:
    broker = KafkaBroker("localhost:9")
    with pytest.raises(UnsafeSubscriptionError) as found:
        refuse_unsafe(broker.subscriber("t"))
    for word in ("ack_policy", "enable_auto_commit", "auto_offset_reset", "batch", "parser"):
        assert word in str(found.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ack_policy": AckPolicy.ACK}, "ack_policy"),
        ({"auto_offset_reset": "latest"}, "auto_offset_reset"),
        ({"batch": False}, "batch"),
        ({"parser": None}, "parser"),
        ({"isolation_level": "read_uncommitted"}, "isolation_level"),
    ],
)
def test_each_unsafe_setting_is_refused_by_its_name(change: dict[str, object], word: str) -> None:
    async def parser(message: object) -> object:
        return message

    safe = {
        "group_id": "g",
        "isolation_level": "read_committed",
        "ack_policy": AckPolicy.MANUAL,
        "auto_offset_reset": "earliest",
        "batch": True,
        "parser": parser,
    }
    broker = KafkaBroker("localhost:9")
    refuse_unsafe(broker.subscriber("safe", **safe))  # type: ignore[call-overload]
    with pytest.raises(UnsafeSubscriptionError, match=f"^{word}"):
        refuse_unsafe(broker.subscriber("unsafe", **(safe | change)))  # type: ignore[call-overload]
