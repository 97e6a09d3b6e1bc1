"""Kafka for programs without an event loop: publish one record and know where it stands, read up to the end, follow.

The one module of this package that imports kafka-python's producer and consumer. Objects here belong to one thread.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors

from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.records import AppendUnknown, LogRefused, LogUnavailable, Record
from trainyard_schemas.ids import Origin

_REFUSED = (
    kafka_errors.AuthorizationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.InvalidTopicError,
    kafka_errors.InvalidRecordError,
    kafka_errors.PolicyViolationError,
    kafka_errors.UnsupportedSaslMechanismError,
)
# Half of a caller's time goes to one try, so that a lost answer can be asked for again within it.
_TRIES = 2
_CONNECT_S = 2.0
_RETRY_S = 0.2


class SyncPublisher:
    """Publishes one record at a time and waits until every in-sync replica has it.

    `timeout_s` bounds each `publish`, connecting included.
    """

    def __init__(self, address: Address, *, timeout_s: float = 10.0, client_id: str = "trainyard") -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._client_id = client_id
        self._producer: KafkaProducer | None = None

    def publish(
        self,
        topic: str,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        *,
        key: bytes | None = None,
        partition: int | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> Origin:
        """Where the acknowledged record stands. `on_sent` is called between the handing over and the answer.

        Raises:
            LogUnavailable: no broker answered, or the topic is not there; nothing was written.
            AppendUnknown: the record was sent and no answer came; publish it again.
            LogRefused: the broker refuses the record or the client.
        """
        try_s = self._timeout_s / _TRIES
        with _translated(self._address, f"topic {topic}"):
            producer = self._connected(try_s)
            future = producer.send(topic, value=value, key=key, headers=list(headers), partition=partition)
        if on_sent is not None:
            on_sent()
        try:
            metadata = future.get(try_s)
        except _REFUSED as error:
            self._drop()
            raise _refused(error, f"topic {topic}") from error
        except (kafka_errors.KafkaError, OSError) as error:
            # A producer that once failed may hold the record back or have lost its sequence: a new one starts clean.
            self._drop()
            raise AppendUnknown(
                f"Kafka at {self._address.bootstrap} did not acknowledge within {try_s:g} s ({_brief(error)})"
            ) from error
        return Origin(metadata.topic, metadata.partition, metadata.offset, metadata.timestamp)

    def close(self) -> None:
        """End the connection; nothing is pending, for `publish` waits."""
        self._drop()

    def _connected(self, try_s: float) -> KafkaProducer:
        if self._producer is None:
            _await_a_broker(self._address, try_s)
            try_ms = int(try_s * 1000)
            # Less than a try, so that a record which got no answer has expired before the producer is closed:
            # kafka-python's close() fails while one is on its way.
            expiry_ms = int(try_ms * 0.8)
            self._producer = _made(
                KafkaProducer,
                **self._address.client_options(),
                client_id=self._client_id,
                acks="all",
                enable_idempotence=True,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                bootstrap_timeout_ms=try_ms,
                max_block_ms=try_ms,
                request_timeout_ms=expiry_ms,
                delivery_timeout_ms=expiry_ms,
            )
        return self._producer

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=0)
            except kafka_errors.KafkaTimeoutError:
                # A send was interrupted before its record expired. There is no public way to give the record up, and
                # a producer left open complains at the end of the process.
                producer._sender.force_close()
                producer._sender.join(_CONNECT_S)
                producer.close(timeout=0)


Position = tuple[str, int]
"""A topic's full name and a partition."""


class SyncReader:
    """Reads partitions without a consumer group; nothing is ever committed.

    `timeout_s` bounds every question to the broker, and the silence that `read_to_end` bears.
    """

    def __init__(self, address: Address, *, timeout_s: float = 10.0, client_id: str = "trainyard") -> None:
        self._address = address
        self._timeout_s = timeout_s
        with _translated(address, "the cluster"):
            _await_a_broker(address, timeout_s)
            self._consumer = _made(
                KafkaConsumer,
                **address.client_options(),
                client_id=client_id,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                metrics_enabled=False,
                bootstrap_timeout_ms=int(timeout_s * 1000),
                max_poll_records=2_000,
            )

    def beginnings(self, positions: Sequence[Position]) -> dict[Position, int]:
        """The first offset that each partition still holds."""
        with self._asking(positions):
            found = self._consumer.beginning_offsets(_keys(positions), timeout_ms=self._timeout_ms)
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    def ends(self, positions: Sequence[Position]) -> dict[Position, int]:
        """The offset that the next record of each partition will have."""
        with self._asking(positions):
            found = self._consumer.end_offsets(_keys(positions), timeout_ms=self._timeout_ms)
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    def offsets_at(self, positions: Sequence[Position], epoch_s: float) -> dict[Position, int]:
        """The first offset of each partition whose record is from `epoch_s` or later; its end where there is none.

        Guarantee: a record appended after this call began is at or after the offset, whatever its time.
        """
        ends = self.ends(positions)
        at_ms = max(0, int(epoch_s * 1000))
        with self._asking(positions):
            found = self._consumer.offsets_for_times(
                dict.fromkeys(_keys(positions), at_ms), timeout_ms=self._timeout_ms
            )
        at = {(tp.topic, tp.partition): None if answer is None else answer.offset for tp, answer in found.items()}
        return {p: ends[p] if (offset := at.get(p)) is None else min(offset, ends[p]) for p in positions}

    def assign(self, starts: Mapping[Position, int]) -> None:
        """Read exactly these partitions from now on, each from its offset."""
        with _translated(self._address, "the cluster"):
            self._consumer.assign(_keys(list(starts)))
            self._consumer.resume(*_keys(list(starts)))
            for (topic, partition), offset in starts.items():
                self._consumer.seek(TopicPartition(topic, partition), offset)

    def poll(self, timeout_s: float) -> list[Record]:
        """The next records of the assigned partitions, each partition in order; empty after `timeout_s` of silence."""
        with _translated(self._address, "the cluster"):
            batches = self._consumer.poll(timeout_ms=max(0, int(timeout_s * 1000)))
        return [_record(raw) for batch in batches.values() for raw in batch]

    def read_to_end(self, starts: Mapping[Position, int]) -> Iterator[Record]:
        """All records from these offsets up to the ends as they stood when this was called, then stop.

        Raises:
            LogUnavailable: for `timeout_s` the broker gave nothing although there is more.
        """
        ends = self.ends(list(starts))
        behind = {position for position, end in ends.items() if starts[position] < end}
        if not behind:
            return
        self.assign({position: starts[position] for position in behind})
        deadline = time.monotonic() + self._timeout_s
        while behind:
            records = self.poll(0.5)
            for record in records:
                if record.offset < ends[record.topic, record.partition]:
                    yield record
            for position in list(behind):
                with _translated(self._address, "the cluster"):
                    reached = self._consumer.position(TopicPartition(*position), timeout_ms=self._timeout_ms)
                if reached is not None and reached >= ends[position]:
                    behind.discard(position)
                    self._consumer.pause(TopicPartition(*position))
            if records:
                deadline = time.monotonic() + self._timeout_s
            elif behind and time.monotonic() > deadline:
                raise LogUnavailable(f"Kafka at {self._address.bootstrap} stopped answering; is the broker running?")

    def close(self) -> None:
        """End the connection."""
        self._consumer.close(autocommit=False)

    @property
    def _timeout_ms(self) -> int:
        return int(self._timeout_s * 1000)

    @contextmanager
    def _asking(self, positions: Sequence[Position]) -> Iterator[None]:
        topics = ", ".join(sorted({topic for topic, _ in positions}))
        with _translated(self._address, f"topic {topics}"):
            yield


def _made(kind: type[Any], **options: Any) -> Any:
    """A client, whose sockets are closed if it cannot be made: kafka-python leaves them open."""
    networks: list[Any] = []

    def remembered(**network_options: Any) -> Any:
        networks.append(kind.DEFAULT_CONFIG["kafka_client"](**network_options))
        return networks[-1]

    try:
        return kind(**options, kafka_client=remembered)
    except BaseException:
        for network in networks:
            network.close()
        raise


def _await_a_broker(address: Address, timeout_s: float) -> None:
    """Wait until one of the brokers takes connections.

    Asked before a client is made: kafka-python leaves a socket unclosed for every connection that is refused, and says
    of an absent broker only that it cannot bootstrap.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = max(0.05, deadline - time.monotonic())
        reason = ""
        for server in address.servers:
            host, _, port = server.rpartition(":")
            try:
                with socket.create_connection((host.strip("[]"), int(port)), timeout=min(left_s, _CONNECT_S)):
                    return
            except OSError as error:
                reason = error.strerror or str(error)
        if time.monotonic() + _RETRY_S > deadline:
            raise LogUnavailable(f"no Kafka broker answers at {address.bootstrap} ({reason}); is it running?")
        time.sleep(_RETRY_S)


def _keys(positions: Sequence[Position]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for topic, partition in positions]


def _record(raw: Any) -> Record:
    return Record(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, tuple(raw.headers or ()))


def _brief(error: BaseException) -> str:
    """The error in one line; kafka-python's begin with their own name."""
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _refused(error: BaseException, what: str) -> LogRefused:
    return LogRefused(f"Kafka refuses {what} ({_brief(error)}); check the record's size and this client's rights")


@contextmanager
def _translated(address: Address, what: str) -> Iterator[None]:
    """Every error of the client library as one of ours."""
    try:
        yield
    except _REFUSED as error:
        raise _refused(error, what) from error
    except kafka_errors.KafkaTimeoutError as error:
        raise LogUnavailable(
            f"Kafka at {address.bootstrap} did not answer for {what} in time;"
            f" is it running, and are address, topic prefix and security right? ({_brief(error)})"
        ) from error
    except (kafka_errors.KafkaError, OSError, ValueError) as error:
        raise LogUnavailable(f"Kafka at {address.bootstrap} cannot be used ({_brief(error)})") from error
