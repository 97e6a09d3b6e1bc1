"""The log of asyncio services, on a real broker."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import Producer

from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.async_log import LogReader, LogWriter, tail
from trainyard_runtime.kafka.records import LogRefused, LogUnavailable, OffsetGone, Record
from trainyard_runtime.kafka.run_log import RunLog
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.topics import TOPICS, TopicName


@pytest.fixture
def kafka(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    return KafkaSettings(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix)


def test_a_record_comes_back_as_it_was_appended(kafka: KafkaSettings) -> None:
    async def scenario() -> list[Record]:
        topic = kafka.topic(TopicName.RUNS_LIFECYCLE)
        writer, reader = LogWriter(kafka), LogReader(kafka)
        try:
            first = await writer.append(
                topic, partition=3, key=b"k", value=b"one", headers=[("h", b"\xff"), ("n", None)]
            )
            second = await writer.append(topic, partition=3, key=None, value=None)
            assert (first, second) == (0, 1)
            assert await reader.end_offset(topic, 3) == 2
            assert await reader.read_at(topic, 3, 1) == (await reader.read_to_end(topic, 3, 1))[0]
            return await reader.read_to_end(topic, 3, 0)
        finally:
            await writer.stop()
            await reader.stop()

    one, two = asyncio.run(scenario())
    assert (one.key, one.value, one.headers, one.partition, one.offset) == (
        b"k",
        b"one",
        (("h", b"\xff"), ("n", None)),
        3,
        0,
    )
    assert (two.key, two.value, two.headers) == (None, None, ())
    assert one.timestamp_ms > 1_600_000_000_000


def test_markers_of_a_strangers_transactions_are_no_records_and_hold_nobody_up(kafka: KafkaSettings) -> None:
    topic = kafka.topic(TopicName.RUNS_LIFECYCLE)

    def transaction(partition: int, commits: bool) -> None:
        producer = Producer(
            {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topic} {partition} {commits}"}
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(topic, partition=partition, value=b"foreign")
        producer.flush(30)
        (producer.commit_transaction if commits else producer.abort_transaction)(30)

    async def scenario() -> None:
        writer, reader = LogWriter(kafka), LogReader(kafka)
        run_log = RunLog(kafka, reader, 60.0, "test")
        try:
            for partition in (0, 1):
                await writer.append(topic, partition=partition, key=b"k", value=b"ours")
            for commits in (False, True):
                transaction(1, commits)
            first, ends = await run_log.bounds()
            assert (ends[0], ends[1]) == (1, 5)
            found = await reader.record_ends(topic)
            assert (found[0], found[1], found[2]) == (1, 4, 0)
            assert await reader.read_on(topic, 1, 4) == ([], 5)
            following, reached, values = dict(first), False, []
            async for news in run_log.news(lambda: following):
                if news is None:
                    reached = not reached
                    if not reached:
                        break
                    await writer.append(topic, partition=1, key=b"k", value=b"later")
                else:
                    partition, records = news
                    following[partition] = records[-1].offset + 1
                    values += [record.value for record in records]
            assert sorted(v or b"" for v in values) == [b"foreign", b"foreign", b"later", b"ours", b"ours"]
        finally:
            await writer.stop()
            await reader.stop()

    async def in_time_or_hanging() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(in_time_or_hanging())


def test_many_concurrent_appends_and_reads_lose_nothing(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.RUNS_LIFECYCLE)
        writer, reader = LogWriter(kafka), LogReader(kafka)
        values = [b"%d" % i * 50 for i in range(500)]
        try:
            offsets = await asyncio.gather(*(writer.append(topic, partition=0, key=None, value=v) for v in values))
            assert sorted(offsets) == list(range(500))
            reads = await asyncio.gather(*(reader.read_to_end(topic, 0, at) for at in range(0, 500, 50)))
            assert [len(found) for found in reads] == [500 - at for at in range(0, 500, 50)]
            assert {record.value for record in reads[0]} == set(values)
        finally:
            await writer.stop()
            await reader.stop()

    asyncio.run(scenario())


def test_an_offset_outside_of_the_log_is_said_to_be_gone(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.RUNS_LIFECYCLE)
        reader = LogReader(kafka)
        try:
            assert await reader.read_to_end(topic, 0, 0) == []
            with pytest.raises(OffsetGone):
                await reader.read_to_end(topic, 0, 7)
            with pytest.raises(OffsetGone):
                await reader.read_at(topic, 0, 0)
        finally:
            await reader.stop()

    asyncio.run(scenario())


def test_a_record_beyond_the_limit_is_refused_for_good_and_the_next_one_goes_through(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        topic = kafka.topic(TopicName.RUNS_LIFECYCLE)
        writer = LogWriter(kafka)
        try:
            with pytest.raises(LogRefused):
                await writer.append(topic, partition=0, key=None, value=b"x" * (3 * 1024 * 1024))
            assert await writer.append(topic, partition=0, key=None, value=b"small") == 0
        finally:
            await writer.stop()

    asyncio.run(scenario())


def test_without_a_broker_an_append_and_a_read_say_so_in_bounded_time() -> None:
    async def scenario() -> None:
        nowhere = KafkaSettings(bootstrap="127.0.0.1:9")
        writer, reader = LogWriter(nowhere, timeout_ms=1_000), LogReader(nowhere, timeout_s=1.0)
        async with asyncio.timeout(6):
            with pytest.raises(LogUnavailable):
                await writer.append("t", partition=0, key=None, value=b"x")
            with pytest.raises(LogUnavailable):
                await reader.read_to_end("t", 0, 0)

    asyncio.run(scenario())


def test_a_tail_from_the_end_gives_only_what_comes_later(kafka: KafkaSettings) -> None:
    async def scenario() -> list[bytes | None]:
        topic = kafka.topic(TopicName.RUNS_LIFECYCLE)
        writer = LogWriter(kafka)
        seen: list[bytes | None] = []
        started = asyncio.Event()

        async def follow() -> None:
            tailing = tail(kafka, [topic], on_ready=started.set)
            async for records in tailing:
                seen.extend(record.value for record in records)
                if len(seen) >= 2:
                    await tailing.aclose()
                    return

        try:
            await writer.append(topic, partition=0, key=None, value=b"before")
            following = asyncio.create_task(follow())
            async with asyncio.timeout(20):
                await started.wait()
                await writer.append(topic, partition=0, key=None, value=b"after 0")
                await writer.append(topic, partition=5, key=None, value=b"after 5")
                await following
        finally:
            await writer.stop()
        return seen

    assert set(asyncio.run(scenario())) == {b"after 0", b"after 5"}
