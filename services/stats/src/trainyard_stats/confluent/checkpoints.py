"""The topic of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from trainyard_runtime.logs import get_logger
from trainyard_schemas.ids import partition_of
from trainyard_stats.confluent.client import ANSWER_S, said
from trainyard_stats.serving.ports import SourceUnavailable


class KafkaCheckpoints:
    """Our compacted topic. A key's partition is our own function of it. See `ports.Checkpoints`."""

    def __init__(self, options: Mapping[str, Any], topic: str, partitions: int) -> None:
        self._options = dict(options)
        self._topic = topic
        self._partitions = partitions
        self._producer: Producer | None = None

    def read(self, keys: Iterable[str]) -> Mapping[str, list[bytes]]:
        """Read the keys' partitions from their first record to their end as it is now."""
        wanted: dict[str, list[bytes]] = {key: [] for key in keys}
        consumer = Consumer(
            {
                **self._options,
                "group.id": "trainyard-stats-reads-without-a-group",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
            }
        )
        try:
            ends = {}
            for number in {partition_of(key, self._partitions) for key in wanted}:
                low, high = consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=ANSWER_S)
                if low < high:
                    ends[number] = high
            consumer.assign([TopicPartition(self._topic, p, 0) for p in ends])
            while ends:
                raw = consumer.poll(ANSWER_S)
                if raw is None:
                    raise SourceUnavailable(f"topic {self._topic} stopped answering")
                if (problem := raw.error()) is not None:
                    raise SourceUnavailable(f"topic {self._topic}: {problem.str()}")
                key, value = (raw.key() or b"").decode(errors="replace"), raw.value()
                if key in wanted and value is not None:
                    wanted[key].append(bytes(value))
                partition, offset = raw.partition(), raw.offset()
                if partition in ends and offset is not None and offset >= ends[partition] - 1:
                    del ends[partition]
        except KafkaException as error:
            raise SourceUnavailable(f"topic {self._topic}: {said(error)}") from error
        finally:
            consumer.close()
        return wanted

    def append(self, key: str, value: bytes, acknowledged: Callable[[bool], None]) -> None:
        """Send, without waiting."""
        if self._producer is None:
            self._producer = Producer(
                {
                    **self._options,
                    "acks": "all",
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 0,
                    "message.max.bytes": 8 * 1024 * 1024,
                    "delivery.timeout.ms": 30_000,
                }
            )

        def heard(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                get_logger(component="checkpoints").warning("not stored", action="checkpoint", error=error.str())
            acknowledged(error is None)

        self._producer.produce(
            self._topic, value, key.encode(), partition=partition_of(key, self._partitions), on_delivery=heard
        )

    def poll(self) -> None:
        """Hear what was acknowledged."""
        if self._producer is not None:
            self._producer.poll(0)

    def flush(self, timeout_s: float) -> None:
        """Wait for what was sent."""
        if self._producer is not None:
            self._producer.flush(timeout_s)

    def close(self) -> None:
        """Let the producer go; what is not acknowledged yet may be lost, and is only counted again."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None
