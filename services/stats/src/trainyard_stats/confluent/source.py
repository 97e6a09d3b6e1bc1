"""The serving topic, shared by a group of replicas."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from trainyard_stats.confluent.client import ANSWER_S, code_of, said
from trainyard_stats.serving.ports import Batch, Bounds, Members, SourceMissing, SourceUnavailable

SESSION_S: Final = 10.0
"""After so long without a sign of life a replica's partitions are given to another one."""
HEARTBEAT_S: Final = 2.0
SURELY_HELD_S: Final = SESSION_S - HEARTBEAT_S - 1.0
"""How long a member that stands still surely holds its partitions: the broker counts the session from the heartbeat
that it got last, which was sent before the standstill; a second is for one that came late."""

BATCH: Final = 2_000
_BEGIN_AGAIN: Final = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._FATAL,
    KafkaError._MAX_POLL_EXCEEDED,
}


class KafkaSource:
    """A topic of a cluster, read by a group. See `ports.Source`."""

    def __init__(self, options: Mapping[str, Any], topic: str, group: str, instance: str = "") -> None:
        """`instance` is a name that this replica keeps over restarts: then a restart is no change of the group."""
        self._options = dict(options)
        self._topic = topic
        self._group = {"group.id": group} | ({"group.instance.id": instance} if instance else {})
        self._admin: AdminClient | None = None
        self._consumer: Consumer | None = None
        self._members: Members | None = None
        self._held: set[int] = set()
        self.topic_id = ""

    def open(self, members: Members) -> None:
        """Join the group. Raises SourceUnavailable where the topic is not there."""
        self.topic_id = self._current_topic_id()
        self._members = members
        self._consumer = Consumer(
            {
                **self._options,
                **self._group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(SESSION_S * 1000),
                "heartbeat.interval.ms": int(HEARTBEAT_S * 1000),
                # An idle consumer's fetch waits at the broker; it is answered at once when there is a message.
                "fetch.wait.max.ms": 5_000,
                "topic.metadata.refresh.interval.ms": 30_000,
                "queued.max.messages.kbytes": 16_384,
            }
        )
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _current_topic_id(self) -> str:
        if self._admin is None:
            self._admin = AdminClient(self._options)
        try:
            asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=ANSWER_S)
            return str(asked[self._topic].result().topic_id)
        except KafkaException as error:
            kind = SourceMissing if code_of(error) == KafkaError.UNKNOWN_TOPIC_OR_PART else SourceUnavailable
            raise kind(f"topic {self._topic}: {said(error)}") from error

    def check(self) -> None:
        """Compare the topic's id."""
        if self._current_topic_id() != self.topic_id:
            raise SourceUnavailable(f"topic {self._topic} was made anew")

    def next(self, timeout_s: float) -> Sequence[Batch]:
        """Wait for one message, then take what else is there."""
        consumer = self._opened()
        try:
            first = consumer.poll(timeout_s)
            if first is None:
                return ()
            rest = consumer.consume(BATCH, 0)
        except KafkaException as error:
            raise SourceUnavailable(f"topic {self._topic}: {said(error)}") from error
        by_partition: dict[int | None, list[Message]] = {}
        for raw in (first, *rest):
            problem = raw.error()
            if problem is None:
                partition = raw.partition()
                known = by_partition.get(partition)
                if known is None:
                    by_partition[partition] = [raw]
                else:
                    known.append(raw)
            elif problem.code() in _BEGIN_AGAIN or problem.fatal():
                raise SourceUnavailable(f"topic {self._topic}: {problem.str()}")
        return [_batch(partition or 0, raws) for partition, raws in by_partition.items()]

    def ends(self) -> Mapping[int, int]:
        """The end offsets of what is held; without a question to the broker."""
        consumer = self._opened()
        found: dict[int, int] = {}
        for partition in self._held:
            with contextlib.suppress(KafkaException):
                bounds = consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
                if bounds is not None and bounds[1] >= 0:
                    found[partition] = bounds[1]
        return found

    def note(self, offsets: Mapping[int, int]) -> None:
        """Commit, in the background; a refusal says that another replica has the partition, which it will tell."""
        with contextlib.suppress(KafkaException):
            self._opened().commit(
                offsets=[TopicPartition(self._topic, p, offset) for p, offset in offsets.items()], asynchronous=True
            )

    def close(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaException, RuntimeError):
                consumer.close()
        self._held.clear()

    def _opened(self) -> Consumer:
        if self._consumer is None:
            raise SourceUnavailable(f"topic {self._topic} is not open")
        return self._consumer

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        bounds = {}
        for partition in partitions:
            found = consumer.get_watermark_offsets(TopicPartition(self._topic, partition.partition), timeout=ANSWER_S)
            if found is None:
                raise SourceUnavailable(f"topic {self._topic}: no offsets of partition {partition.partition}")
            bounds[partition.partition] = Bounds(*found)
        assert self._members is not None
        starts = self._members.gained(bounds)
        self._held |= set(starts)
        consumer.incremental_assign([TopicPartition(self._topic, p, offset) for p, offset in starts.items()])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [p.partition for p in partitions]
        assert self._members is not None
        self._members.handing_over(numbers)
        self._held -= set(numbers)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [p.partition for p in partitions]
        assert self._members is not None
        self._members.lost(numbers)
        self._held -= set(numbers)
        consumer.incremental_unassign(partitions)


def _batch(partition: int, raws: Sequence[Message]) -> Batch:
    """Offsets nearly always follow each other; then the first and the last one say them all."""
    first, last = raws[0].offset() or 0, raws[-1].offset() or 0
    offsets: Sequence[int] = range(first, last + 1)
    if len(offsets) != len(raws):
        offsets = [raw.offset() or 0 for raw in raws]
    return Batch(partition, offsets, [raw.value() for raw in raws])
