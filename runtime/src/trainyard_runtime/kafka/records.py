"""What a Kafka record is to us, and what can go wrong with the log; no client in sight."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in the log; `timestamp_ms` since the epoch, headers as raw bytes."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class LogUnavailable(Exception):
    """The log cannot be reached or did not answer in time; nothing was written."""


class AppendUnknown(LogUnavailable):
    """The answer to an append was lost: it may stand in the log or not. Append the same record again."""


class LogRefused(Exception):
    """The broker refuses this record or this client; the same again would be refused again."""
