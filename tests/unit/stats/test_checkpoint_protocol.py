"""Checkpoints under replicas that come, go, die, stall and wake: the counts are what was sent, to the last one.

The production fold, codec and choice of a checkpoint, under a simulated group and log: random schedules of what Kafka
allows. Appends of checkpoints arrive late or never, zombies go on, compaction keeps any suffix that it may.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random

import pytest

from trainyard_stats.serving.checkpoint import (
    VERSION,
    Checkpoint,
    CheckpointUnreadableError,
    best,
    decode,
    encode,
    key_of,
    start_from,
)
from trainyard_stats.serving.counters import Counters, Fold
from trainyard_stats.serving.fold import apply
from trainyard_stats.serving.metric_rules import parse_rules

RULES = parse_rules({"a/1": {"metrics": {"c": {"type": "counter"}}}}, 0.7)
TOPIC = "id-1"


def message(number: int) -> bytes:
    return json.dumps([{"_url": f"a/{number % 3}", "_latency": number % 7 / 10, "_count": 1, "c": 0.1}]).encode()


@dataclass(slots=True)
class Replica:
    """What one process knows. It may be a zombie: it goes on with what it knows until it is told otherwise."""

    fold: Fold
    offset: int


@dataclass(slots=True)
class World:
    """One partition of the source, and the log of its checkpoints."""

    rng: Random
    log: list[bytes] = field(default_factory=list)
    checkpoints: list[bytes] = field(default_factory=list)
    in_flight: list[bytes] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)
    commit_first: bool = False
    """The hole that the guard must see: counters that are stored apart from the offset."""

    def gain(self) -> None:
        """A replica gets the partition: all others are zombies from now on, and do not know it."""
        found = best(self.checkpoints, TOPIC)
        start = start_from(found, TOPIC, 0, len(self.log))
        self.replicas.append(Replica(Fold(start.counters, RULES), start.offset))

    def count(self, replica: Replica) -> None:
        for value in self.log[replica.offset : replica.offset + self.rng.randint(1, 9)]:
            apply(replica.fold, value)
            replica.offset += 1

    def store(self, replica: Replica) -> None:
        offset = replica.offset + (2 if self.commit_first else 0)
        value = encode(Checkpoint(VERSION, TOPIC, offset, "w", 0.0, replica.fold.counters))
        self.in_flight.append(value)

    def arrive(self) -> None:
        if self.in_flight:
            value = self.in_flight.pop(self.rng.randrange(len(self.in_flight)))
            self.checkpoints += [value] * self.rng.choice((1, 1, 1, 2))

    def compact(self) -> None:
        if self.checkpoints:
            del self.checkpoints[: self.rng.randrange(len(self.checkpoints))]


def run(seed: int, *, commit_first: bool = False) -> tuple[Counters, Counters]:
    """What the last replica shows when all is read, and what counting once without any fault gives."""
    world = World(Random(seed), commit_first=commit_first)
    rng = world.rng
    for _ in range(rng.randint(20, 150)):
        step = rng.random()
        if step < 0.35:
            world.log += [message(len(world.log) + n) for n in range(rng.randint(1, 6))]
        elif step < 0.45 or not world.replicas:
            world.gain()
        elif step < 0.7:
            world.count(rng.choice(world.replicas[-3:]))
        elif step < 0.82:
            world.store(rng.choice(world.replicas[-3:]))
        elif step < 0.94:
            world.arrive()
        elif step < 0.97:
            world.in_flight.clear()
        else:
            world.compact()
    world.gain()
    last = world.replicas[-1]
    while last.offset < len(world.log):
        world.count(last)
    truth = Fold(Counters(), RULES)
    for value in world.log:
        apply(truth, value)
    return last.fold.counters, truth.counters


def as_bytes(counters: Counters) -> bytes:
    return encode(Checkpoint(VERSION, TOPIC, 0, "", 0.0, counters))


@pytest.mark.parametrize("first", range(0, 1_500, 300))
def test_whatever_happens_the_counts_are_those_of_the_log_to_the_last_bit(first: int) -> None:
    for seed in range(first, first + 300):
        found, truth = run(seed)
        assert as_bytes(found) == as_bytes(truth), f"seed {seed}"


def test_counters_apart_from_their_offset_would_be_noticed() -> None:
    broken = 0
    for seed in range(100):
        found, truth = run(seed, commit_first=True)
        broken += as_bytes(found) != as_bytes(truth)
    assert broken > 50


def stored(offset: int, topic_id: str = TOPIC, messages: int = 0) -> bytes:
    return encode(Checkpoint(VERSION, topic_id, offset, "w", 1.5, Counters(messages=messages)))


def test_the_furthest_checkpoint_of_the_present_topic_is_taken() -> None:
    values = [stored(5), stored(9, messages=1), stored(9, messages=2), stored(7), stored(100, "id-0")]
    found = best(values, TOPIC)
    assert found is not None
    assert (found.offset, found.counters.messages) == (9, 2)
    assert best([], TOPIC) is None


@pytest.mark.parametrize(
    ("checkpoint", "low", "high", "offset", "skipped"),
    [
        (None, 4, 9, 4, 0),
        (stored(6), 4, 9, 6, 0),
        (stored(9), 4, 9, 9, 0),
        (stored(2), 4, 9, 4, 2),
        (stored(12), 4, 9, 4, 0),  # ahead of the log: the log is not the one that was counted
        (stored(6, "id-0"), 4, 9, 4, 0),  # another topic under this name
    ],
)
def test_where_counting_goes_on(checkpoint: bytes | None, low: int, high: int, offset: int, skipped: int) -> None:
    start = start_from(None if checkpoint is None else decode(checkpoint), TOPIC, low, high)
    assert start.offset == offset
    assert start.counters.skipped == skipped


@pytest.mark.parametrize("value", [b"", b"\xff", b"{}", stored(1)[:-3], stored(1) + b"x"])
def test_a_record_that_is_no_checkpoint_stops_loudly(value: bytes) -> None:
    with pytest.raises(CheckpointUnreadableError):
        best([stored(3), value], TOPIC)


def test_a_checkpoint_of_a_later_version_stops_loudly() -> None:
    value = encode(Checkpoint(VERSION + 1, TOPIC, 1, "w", 0.0, Counters()))
    with pytest.raises(CheckpointUnreadableError, match="of version 2"):
        decode(value)


def test_keys_name_deployment_topic_and_partition() -> None:
    assert len({key_of(d, t, p) for d in "ab" for t in ("t", "u") for p in (1, 11)}) == 8
