"""Subscriptions by FastStream, with its defaults replaced by ones that lose nothing.

FastStream's own defaults commit before the work is done, start at the end of a topic, read what aborted transactions
wrote, and drop a record whose header is null or not UTF-8. Here every subscription acknowledges nothing by itself,
starts at the beginning, hands over batches of raw records, and commits explicitly `{partition: offset + 1}`. The only
module that imports FastStream.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from faststream.kafka import KafkaBroker, TopicPartition
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.middlewares import AckPolicy
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from trainyard_runtime.kafka.async_log.client import describe, record_of
from trainyard_runtime.kafka.async_log.consumer import (
    KAFKA_ERRORS,
    LOOK_ROUND_MS,
    STAYING,
    AssignmentListener,
    WaitingConsumer,
)
from trainyard_runtime.kafka.records import LogUnavailable, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger

Handler = Callable[[Sequence[Record]], Awaitable[None]]
Offsets = Mapping[tuple[str, int], int]
"""`(topic, partition)` to the next offset to read."""

SESSION_TIMEOUT_MS: Final = 6_000
"""After this long without a sign of life a member's partitions go to others; the least that brokers allow."""

HEARTBEAT_MS: Final = 2_000
MAX_POLL_INTERVAL_MS: Final = 300_000
FETCH_WAIT_MS: Final = 5_000
"""How long the broker holds an empty fetch; a new record ends the wait at once, so this only costs idle CPU."""

_GRACE_S: Final = 1.0
_POSITIONS_S: Final = 1.0


class UnsafeSubscriptionError(Exception):
    """A subscription's settings would lose records."""


def refuse_unsafe(subscriber: Any) -> None:
    """Raise UnsafeSubscriptionError unless a FastStream Kafka subscriber keeps every record."""
    options: Mapping[str, Any] = subscriber._connection_args
    problems = []
    if subscriber.ack_policy is not AckPolicy.MANUAL:
        problems.append(
            f"ack_policy is {subscriber.ack_policy.name}: records count as done before they are; set MANUAL"
        )
    if options.get("enable_auto_commit"):
        problems.append("enable_auto_commit is on: offsets are committed before the work is done; turn it off")
    if options.get("auto_offset_reset") not in ("earliest", "none"):
        problems.append("auto_offset_reset is latest: records before the first start are skipped; set earliest")
    if not getattr(subscriber, "batch_timeout_ms", 0):
        problems.append("batch is off: one commit a record; set batch=True")
    if subscriber.group_id and options.get("isolation_level") != "read_committed":
        problems.append(
            "isolation_level is read_uncommitted: what an aborted transaction wrote counts; set read_committed"
        )
    parser = subscriber._call_options.parser
    if parser is None:
        problems.append("parser is FastStream's: it drops records with a null or non-UTF-8 header; set a tolerant one")
    if problems:
        raise UnsafeSubscriptionError("; ".join(problems))


class Subscription:
    """One consumer with its handler.

    The handler gets batches in offset order per partition, one batch at a time, and is never called again after it
    raised: then `on_failure` is told and nothing more is read or committed. It must not wait longer than
    `MAX_POLL_INTERVAL_MS`. Records come again after a crash or a rebalance: from the last commit.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        handler: Handler,
        *,
        on_failure: Callable[[BaseException], None],
        group: str | None = None,
        start_at: Offsets | None = None,
        on_assignment: Callable[[frozenset[tuple[str, int]]], None] | None = None,
        max_records: int = 500,
        client_id: str = "trainyard",
    ) -> None:
        """With a `group`, the topic's partitions are shared among its members; else `start_at` names those to read.

        A group waits for transactions to end, and is given the committed ones. `start_at` is for a topic that is ours
        alone, where no transaction is written: what a prefix read finds there must be found here too.
        """
        if (group is None) == (start_at is None):
            raise ValueError("a subscription has either a group or the offsets to start at")
        self._handler = handler
        self._on_failure = on_failure
        self._failed = False
        self._log = get_logger(component="subscription", topic=topic, group=group)
        self._broker = _ConsumerBroker(settings, client_id, start_at or {})
        options: dict[str, Any] = {}
        if group is not None:
            options = {
                "group_id": group,
                "isolation_level": "read_committed",
                "listener": AssignmentListener(self._changed),
                "session_timeout_ms": SESSION_TIMEOUT_MS,
                "heartbeat_interval_ms": HEARTBEAT_MS,
                "max_poll_interval_ms": MAX_POLL_INTERVAL_MS,
                "partition_assignment_strategy": STAYING,
            }
        else:
            options = {"partitions": [TopicPartition(t, p, declare=False) for t, p in start_at or ()]}
        self._on_assignment = on_assignment
        self._assignment: frozenset[tuple[str, int]] = frozenset() if group is not None else frozenset(start_at or ())
        self._subscriber = self._broker.subscriber(
            *([topic] if group is not None else []),
            batch=True,
            max_records=max_records,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            consumer_timeout_ms=LOOK_ROUND_MS,
            parser=_tolerant_parser,
            decoder=_records,
            no_reply=True,
            **options,
        )
        self._subscriber(self._handle)

    @property
    def assignment(self) -> frozenset[tuple[str, int]]:
        """The `(topic, partition)`s that are ours now."""
        return self._assignment

    async def start(self) -> None:
        """Connect and begin. Raises LogUnavailable, UnsafeSubscriptionError."""
        refuse_unsafe(self._subscriber)
        try:
            await self._broker.start()
        except (OSError, *KAFKA_ERRORS) as error:
            raise LogUnavailable(f"cannot subscribe ({describe(error)})") from error

    async def stop(self) -> None:
        """Let the batch in hand end, within a second, leave the group and disconnect."""
        await self._broker.stop()

    async def commit(self, offsets: Offsets) -> bool:
        """Commit these next offsets; False where that was not possible (the records will come again)."""
        consumer = self._subscriber.consumer
        if consumer is None:
            return False
        try:
            await consumer.commit_offsets(offsets)
        except KAFKA_ERRORS as error:
            self._log.warning("commit failed, records will come again", action="commit", error=describe(error))
            return False
        return True

    async def positions(self) -> dict[tuple[str, int], int]:
        """Per partition that is ours the next offset to be handed over, where it is known by now."""
        consumer = self._subscriber.consumer
        return {} if consumer is None else await consumer.positions(_POSITIONS_S)

    def _changed(self, assignment: frozenset[tuple[str, int]]) -> None:
        self._assignment = assignment
        if self._on_assignment is not None:
            self._on_assignment(assignment)

    async def _handle(self, records: list[Record]) -> None:
        if self._failed:
            return
        try:
            await self._handler(records)
        except asyncio.CancelledError:
            self._failed = True
            raise
        except Exception as error:  # noqa: BLE001 - FastStream would log it and go on with the next batch
            self._failed = True
            self._on_failure(error)


class _ConsumerBroker(KafkaBroker):
    """A FastStream broker that only consumes, through `WaitingConsumer`."""

    def __init__(self, settings: KafkaSettings, client_id: str, start_at: Offsets) -> None:
        super().__init__(
            settings.bootstrap.split(","),
            client_id=client_id,
            consumer_only=True,
            allow_auto_create_topics=False,
            apply_types=False,
            ack_policy=AckPolicy.MANUAL,
            graceful_timeout=_GRACE_S,
            request_timeout_ms=FETCH_WAIT_MS + 10_000,
            security=_security(settings),
            logger=logging.getLogger("trainyard.faststream"),
        )
        self._start_at = start_at

    async def _connect(self) -> Any:
        await super()._connect()
        config = self.config.broker_config
        options = config.builder.keywords  # type: ignore[attr-defined]
        config.builder = partial(WaitingConsumer, start_at=self._start_at, **options)
        return config.builder


async def _tolerant_parser(raw: Any) -> KafkaMessage:
    """A message that looks at no header: whatever a record holds, the handler gets it."""
    return KafkaMessage(
        body=b"",
        headers={},
        reply_to="",
        content_type=None,
        message_id=f"{raw[0].offset}",
        correlation_id=None,
        raw_message=raw,
        path={},
        consumer=FAKE_CONSUMER,
    )


async def _records(message: KafkaMessage) -> list[Record]:
    return [record_of(raw) for raw in message.raw_message]


def _security(settings: KafkaSettings) -> BaseSecurity | None:
    if settings.security_protocol == "PLAINTEXT":
        return None
    context = (
        ssl.create_default_context(cafile=settings.ca_file) if settings.security_protocol.endswith("SSL") else None
    )
    if settings.security_protocol == "SSL":
        return BaseSecurity(ssl_context=context, use_ssl=True)
    sasl = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return sasl[settings.sasl_mechanism](
        username=settings.username,
        password=settings.password.get_secret_value(),
        ssl_context=context,
        use_ssl=context is not None,
    )
