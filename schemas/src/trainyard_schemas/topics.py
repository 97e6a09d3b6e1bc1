"""Every topic, declared once. Created by our own command, never by a client's mistake.

Names are without the prefix (`trainyard.` unless configured).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trainyard_schemas.vocabulary import TERMINAL_EVENTS, EventType

DEFAULT_PREFIX = "trainyard."
RUN_PARTITIONS = 12
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class TopicName(StrEnum):
    """The topics that code refers to."""

    RUNS_REQUESTED = "runs.requested"
    RUNS_COMMANDS = "runs.commands"
    RUNS_LIFECYCLE = "runs.lifecycle"
    RUNS_HEARTBEATS = "runs.heartbeats"
    RUNS_COMPLETED = "runs.completed"
    RUNS_REQUESTED_DEAD_LETTER = "runs.requested.dead-letter"
    RUNS_COMMANDS_DEAD_LETTER = "runs.commands.dead-letter"
    PLANNER_LEAD = "planner.lead"
    STATS_CHECKPOINTS = "stats.checkpoints"
    CLEARML_INFERENCE_STATS = "clearml_inference_stats"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_ms` is a minimum (-1: for ever); `config` what beyond it must be set as given.

    `producers` and `consumers` name services, or `anybody`. A `foreign` topic belongs to another system: it has no
    prefix, and it is never held to this declaration once it exists.
    """

    name: TopicName
    partitions: int
    retention_ms: int
    event_types: tuple[EventType, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    config: Mapping[str, str] = field(default_factory=lambda: {"cleanup.policy": "delete"})
    foreign: bool = False

    def full_name(self, prefix: str) -> str:
        """The name in Kafka under a prefix such as `trainyard.`"""
        return self.name.value if self.foreign else f"{prefix}{self.name.value}"


_NOT_IN_LIFECYCLE = (EventType.RUN_REQUESTED, EventType.RUN_COMMAND, EventType.ATTEMPT_HEARTBEAT)
_LIFECYCLE_EVENTS = tuple(t for t in EventType if t not in _NOT_IN_LIFECYCLE)
# Kafka deletes by a record's time, and many a client's clock or replay says one of long ago: the broker's counts here.
_INBOX_CONFIG = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
# An original of the broker's largest size (1 MiB) fits with the headers that say why it is here.
_DEAD_LETTER_CONFIG = {"cleanup.policy": "delete", "max.message.bytes": str(2 * 1024 * 1024)}
# A checkpoint of a full table is below 1 MiB; small segments keep the part short that compaction has not seen yet.
_CHECKPOINT_CONFIG = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(8 * 1024 * 1024),
    "segment.bytes": str(16 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
}

TOPICS: tuple[Topic, ...] = (
    Topic(
        TopicName.RUNS_REQUESTED,
        RUN_PARTITIONS,
        30 * _DAY_MS,
        (EventType.RUN_REQUESTED,),
        producers=("submitter", "trainer-worker", "anybody"),
        consumers=("dispatcher",),
        config=_INBOX_CONFIG,
    ),
    Topic(
        TopicName.RUNS_COMMANDS,
        RUN_PARTITIONS,
        30 * _DAY_MS,
        (EventType.RUN_COMMAND,),
        producers=("submitter", "anybody"),
        consumers=("dispatcher",),
        config=_INBOX_CONFIG,
    ),
    Topic(
        TopicName.RUNS_LIFECYCLE,
        RUN_PARTITIONS,
        90 * _DAY_MS,
        _LIFECYCLE_EVENTS,
        producers=("dispatcher", "trainer-worker"),
        consumers=("dispatcher", "trainer-worker", "stats", "submitter", "anybody"),
    ),
    Topic(
        TopicName.RUNS_HEARTBEATS,
        RUN_PARTITIONS,
        6 * _HOUR_MS,
        (EventType.ATTEMPT_HEARTBEAT,),
        producers=("trainer-worker",),
        consumers=("dispatcher", "submitter", "anybody"),
    ),
    Topic(
        TopicName.RUNS_COMPLETED,
        RUN_PARTITIONS,
        90 * _DAY_MS,
        tuple(sorted(TERMINAL_EVENTS)),
        producers=("dispatcher",),
        consumers=("anybody",),
    ),
    Topic(
        TopicName.RUNS_REQUESTED_DEAD_LETTER,
        RUN_PARTITIONS,
        30 * _DAY_MS,
        (),
        producers=("dispatcher",),
        consumers=("operators",),
        config=_DEAD_LETTER_CONFIG,
    ),
    Topic(
        TopicName.RUNS_COMMANDS_DEAD_LETTER,
        RUN_PARTITIONS,
        30 * _DAY_MS,
        (),
        producers=("dispatcher",),
        consumers=("operators",),
        config=_DEAD_LETTER_CONFIG,
    ),
    Topic(
        TopicName.PLANNER_LEAD,
        1,
        _DAY_MS,
        (),
        producers=(),
        consumers=("dispatcher",),
    ),
    Topic(
        TopicName.STATS_CHECKPOINTS,
        RUN_PARTITIONS,
        -1,
        (),
        producers=("stats",),
        consumers=("stats",),
        config=_CHECKPOINT_CONFIG,
    ),
)
"""Our own topics."""

FOREIGN_TOPICS: tuple[Topic, ...] = (
    Topic(
        TopicName.CLEARML_INFERENCE_STATS,
        1,
        7 * _DAY_MS,
        (),
        producers=("anybody",),
        consumers=("stats",),
        foreign=True,
    ),
)
"""Topics of other systems that we read. Theirs to create; `trainyard up` does it on the embedded stack."""


def topic(name: TopicName) -> Topic:
    """The declaration of a topic. Raises KeyError for one that nobody produces or consumes yet."""
    return {t.name: t for t in (*TOPICS, *FOREIGN_TOPICS)}[name]
