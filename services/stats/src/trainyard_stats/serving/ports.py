"""What counting stands on: a log that is shared among replicas, and a log of checkpoints. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one partition in order, at least one: their offsets, strictly rising, and their values."""

    partition: int
    offsets: Sequence[int]
    values: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A partition's first offset that is still there, and the one that its next message will have."""

    low: int
    high: int


class SourceUnavailable(Exception):
    """A broker or a topic cannot be reached, or the offsets are not what they were: begin again from the checkpoints.

    Beginning again is always right; it only costs reading again.
    """


class SourceMissing(SourceUnavailable):
    """The topic does not exist yet: nobody has published to it."""


class Members(Protocol):
    """What a source tells its reader, always inside of `next` or `close`, so never beside the counting."""

    def gained(self, bounds: Mapping[int, Bounds]) -> Mapping[int, int]:
        """These partitions are ours now; returns the offset to read each from."""

    def handing_over(self, partitions: Iterable[int]) -> None:
        """These partitions will be another replica's once this returns."""

    def lost(self, partitions: Iterable[int]) -> None:
        """These partitions may be another replica's already."""


class Source(Protocol):
    """One topic, shared by the replicas of one group. For one thread."""

    @property
    def topic_id(self) -> str:
        """What tells the topic from one that is made anew under its name."""

    def open(self, members: Members) -> None:
        """Join the group. Raises SourceUnavailable."""

    def next(self, timeout_s: float) -> Sequence[Batch]:
        """The next messages of our partitions, at most one batch of each; empty after `timeout_s` without one.

        Raises SourceUnavailable.
        """

    def check(self) -> None:
        """Ask whether the topic is still the one that was opened. Raises SourceUnavailable where it is not."""

    def ends(self) -> Mapping[int, int]:
        """The end offsets of our partitions, as the last fetch told them."""

    def note(self, offsets: Mapping[int, int]) -> None:
        """Tell the group how far we are: for people and their tools, nothing is ever read back."""

    def close(self) -> None:
        """Leave the group, handing over what is held; within about a second."""


class Checkpoints(Protocol):
    """The log of checkpoints. For one thread."""

    def read(self, keys: Iterable[str]) -> Mapping[str, list[bytes]]:
        """Every value that is still there under each key, in log order, read to the log's end.

        Guarantee: what was acknowledged before this call is among them, unless a later one of its key replaced it.
        Raises SourceUnavailable.
        """

    def append(self, key: str, value: bytes, acknowledged: Callable[[bool], None]) -> None:
        """Send a checkpoint; `acknowledged` is told in `poll` or `flush` whether all in-sync replicas have it."""

    def poll(self) -> None:
        """Hear what was acknowledged."""

    def flush(self, timeout_s: float) -> None:
        """Wait for what was sent."""

    def close(self) -> None:
        """End the connections."""
