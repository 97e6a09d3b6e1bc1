"""Natural keys: doing a thing again gives the same id, so doing it again is harmless.

All ids are UUIDs of version 5 in one fixed namespace; a name joins its parts with a newline, which no part may hold.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

NAMESPACE = uuid.UUID("5b0f1f4e-6c0e-5d2a-9a57-7d9d3c1f0a11")


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a record stands in Kafka. `timestamp_ms` tells a topic from one that was created again under its name."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def _uuid5(*parts: str) -> str:
    return str(uuid.uuid5(NAMESPACE, "\n".join(parts)))


def run_id_from_key(tenant: str, idempotency_key: str) -> str:
    """The run of an idempotency key; one key means one run per tenant, for as long as the topic is retained."""
    return _uuid5("run", tenant, "key", idempotency_key)


def run_id_from_event(tenant: str, source: str, event_id: str) -> str:
    """The run of a CloudEvent, whose `source` and `id` are unique together."""
    return _uuid5("run", tenant, "event", source, event_id)


def run_id_from_origin(tenant: str, origin: Origin) -> str:
    """The run of a record that names itself in no other way; also of a request that lost a conflict."""
    return _uuid5(
        "run", tenant, "origin", origin.topic, str(origin.partition), str(origin.offset), str(origin.timestamp_ms)
    )


def event_id(event_type: str, run_id: str, *parts: str) -> str:
    """An event's id from its type, its run and what else makes it one of its kind (attempt, claim, task, writer)."""
    return _uuid5("event", event_type, run_id, *parts)


def partition_of(run_id: str, partitions: int) -> int:
    """The partition of a run's records on every run topic.

    The first 8 bytes, big-endian, of the SHA-256 of `run_id` in UTF-8, modulo the number of partitions. It is passed
    explicitly, because Kafka's clients hash keys differently.
    """
    if partitions < 1:
        raise ValueError(f"partitions must be at least 1, not {partitions}")
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big") % partitions
