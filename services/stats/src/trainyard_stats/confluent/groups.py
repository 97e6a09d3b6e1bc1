"""How far our consumer groups are behind, and how many dead letters there are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.topics import TOPICS
from trainyard_stats.confluent.client import ANSWER_S, client_options, said
from trainyard_stats.serving.ports import SourceUnavailable


class KafkaGroups:
    """Asks Kafka, blocking: for a thread."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._prefix = kafka.topic_prefix
        self._admin = AdminClient(client_options(kafka))

    def lags(self) -> dict[tuple[str, str], int]:
        """Records that are there and not committed, by group and topic, of every group under our prefix.

        A group that has committed nothing on a partition has no lag there. Raises SourceUnavailable.
        """
        with _asking("consumer groups"):
            listed = self._admin.list_consumer_groups(request_timeout=ANSWER_S).result().valid or ()
            names = [group.group_id for group in listed if group.group_id.startswith(self._prefix)]
            committed: dict[str, dict[tuple[str, int], int]] = {}
            for name in names:
                asked = self._admin.list_consumer_group_offsets(
                    [ConsumerGroupTopicPartitions(name)], request_timeout=ANSWER_S
                )
                found = asked[name].result().topic_partitions or ()
                committed[name] = {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
            ends = self._ends({place for offsets in committed.values() for place in offsets})
        lags: dict[tuple[str, str], int] = {}
        for name, offsets in committed.items():
            for (topic, partition), offset in offsets.items():
                behind = max(0, ends.get((topic, partition), offset) - offset)
                lags[name, topic] = lags.get((name, topic), 0) + behind
        return lags

    def dead_letters(self) -> dict[str, int]:
        """How many records were ever written to each dead-letter topic. Raises SourceUnavailable."""
        topics = [t.full_name(self._prefix) for t in TOPICS if t.name.value.endswith(".dead-letter")]
        with _asking("topics"):
            there = self._admin.list_topics(timeout=ANSWER_S).topics
            places = {(name, p) for name in topics if name in there for p in there[name].partitions}
            ends = self._ends(places)
        found = {name: 0 for name, _ in places}
        for (name, _), end in ends.items():
            found[name] += end
        return found

    def _ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        asked = self._admin.list_offsets(
            {
                TopicPartition(topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
                for topic, partition in places
            },
            request_timeout=ANSWER_S,
        )
        found = {}
        for place, answer in asked.items():
            with contextlib.suppress(KafkaException):  # a topic that is gone; the group's offsets outlive it
                found[place.topic, place.partition] = answer.result().offset
        return found


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise SourceUnavailable(f"{what}: {said(error)}") from error
