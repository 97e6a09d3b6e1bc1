"""A checkpoint: counters and the offset that they reflect, in one record; and which of several to go on from. Pure.

Why no fence is needed. Claim: every checkpoint of a partition says exactly what the messages from its start up to its
offset add up to. A replica that gains the partition begins with a checkpoint for which that holds, or with nothing at
the log's start, and only ever adds the messages that follow, in order; so it holds for all that it writes, whenever the
record arrives. A zombie's late checkpoint is therefore a true statement about a shorter prefix. Going on from it costs
reading again what follows, and changes no number. `best` takes the furthest one that is still in the topic, so a late
record does not even cost that, unless compaction has removed the better one by then.

What does break it is a source topic that is made anew under the same name, because offsets start over: so a checkpoint
bears the topic's id, and one of another id gives its counts but not its offset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from trainyard_stats.serving.counters import Counters

VERSION: Final = 1


class Checkpoint(msgspec.Struct, frozen=True):
    """One record. `offset` is the next message to count; `writer` one incarnation of a replica, for people."""

    version: int
    topic_id: str
    offset: int
    writer: str
    at_s: float
    counters: Counters


@dataclass(frozen=True, slots=True)
class Start:
    """Where counting goes on: with these counters, at this offset."""

    counters: Counters
    offset: int


class CheckpointUnreadableError(Exception):
    """A record that is none of ours, or of a version that this reader does not know."""


_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_DECODER: Final = msgspec.msgpack.Decoder(Checkpoint)


def key_of(deployment: str, topic: str, partition: int) -> str:
    """The record's key; the newest record of a key is what compaction keeps."""
    return f"{deployment}\n{topic}\n{partition}"


def encode(checkpoint: Checkpoint) -> bytes:
    """The record's value; equal checkpoints have equal bytes."""
    return _ENCODER.encode(checkpoint)


def decode(value: bytes) -> Checkpoint:
    """The checkpoint that `encode` wrote. Raises CheckpointUnreadableError."""
    try:
        found = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointUnreadableError(f"the record cannot be read ({error})") from error
    if found.version != VERSION:
        raise CheckpointUnreadableError(f"the record is of version {found.version}, this reader knows {VERSION}")
    return found


def best(values: Iterable[bytes], topic_id: str) -> Checkpoint | None:
    """Of a partition's checkpoints in log order the one to go on from: of this topic, else of an earlier one.

    Of each the furthest, the later one where two are equally far. Raises CheckpointUnreadableError: going on without
    what is written there would count from nothing.
    """
    found: Checkpoint | None = None
    for value in values:
        candidate = decode(value)
        if found is None or _rank(candidate, topic_id) >= _rank(found, topic_id):
            found = candidate
    return found


def _rank(checkpoint: Checkpoint, topic_id: str) -> tuple[bool, int]:
    return checkpoint.topic_id == topic_id, checkpoint.offset


def start_from(checkpoint: Checkpoint | None, topic_id: str, low: int, high: int) -> Start:
    """Where to go on in a partition whose messages `low` up to but not including `high` are there.

    Messages that retention deleted uncounted are counted as skipped. A checkpoint of another topic under this name, or
    one that is ahead of the log, keeps its counts and starts at `low`: what it reflects is not there any more.
    """
    if checkpoint is None:
        return Start(Counters(), low)
    counters = checkpoint.counters
    if checkpoint.topic_id != topic_id or checkpoint.offset > high:
        return Start(counters, low)
    counters.skipped += max(0, low - checkpoint.offset)
    return Start(counters, max(low, checkpoint.offset))
