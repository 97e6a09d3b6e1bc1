"""A record as any client of ours sees it, and what can go wrong with the log. Pure.

LogError
  +- LogUnavailable   certainly nothing was appended, or a read got no answer: try again later
  +- AppendUnknown    the record was sent and no acknowledgement came: append the very same record again
  +- RecordTooLarge   the record can never be appended
  +- OffsetGone       the offset is not in the log: deleted by retention, or the topic was created again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard_schemas.ids import Origin

RecordHeaders = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic, as it stands there. `timestamp_ms` since the epoch.

    `unreadable` says why the client cannot read it, and is empty otherwise; only its place is known then.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    unreadable: str = ""

    @property
    def origin(self) -> Origin:
        """Where the record stands."""
        return Origin(self.topic, self.partition, self.offset, self.timestamp_ms)


class LogError(Exception):
    """Any failure of the log."""


class LogUnavailable(LogError):
    """The log cannot be reached or did not answer in time. But for AppendUnknown, nothing was written: try again."""


class AppendUnknown(LogUnavailable):
    """The answer to an append was lost: it may stand in the log or not. Append the very same record again."""


class LogRefused(LogError):
    """The broker refuses this record (too large, ...) or this client; the same again would be refused again."""


class OffsetGone(LogError):
    """The offset is not in the log: deleted by retention, or the topic was created again."""
