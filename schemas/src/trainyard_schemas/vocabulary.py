"""Closed vocabularies that several events share."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a run or an attempt ended as it did. A `detail` code may narrow it."""

    USER = "user"
    DEADLINE = "deadline"
    QUEUE_TIMEOUT = "queue_timeout"
    WORKER_LOST = "worker_lost"
    HOST_SHUTDOWN = "host_shutdown"
    OUT_OF_MEMORY = "out_of_memory"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_VERSION = "unsupported_version"
    INVALID_DATASET = "invalid_dataset"
    DATASET_UNREACHABLE = "dataset_unreachable"
    MODEL_UNAVAILABLE = "model_unavailable"
    TRAINER_ERROR = "trainer_error"
    CLEARML_REJECTED = "clearml_rejected"
    INTERNAL = "internal"


class RunPhase(StrEnum):
    """Where a run stands in its life: the states of the transition table in `lifecycle`."""

    ACCEPTED = "accepted"
    DISPATCHED = "dispatched"
    STARTED = "started"
    ATTEMPT_SUCCEEDED = "attempt_succeeded"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPT_LOST = "attempt_lost"
    ATTEMPT_CANCELLED = "attempt_cancelled"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @property
    def is_terminal(self) -> bool:
        """True where nothing may follow: one terminal event per run."""
        return self in _TERMINAL


_TERMINAL = frozenset({RunPhase.COMPLETED, RunPhase.FAILED, RunPhase.CANCELLED, RunPhase.REJECTED})


class CommandName(StrEnum):
    """What anybody may ask of a run that has not ended. (Trying an ended run again is a new request: `retry_of`.)"""

    CANCEL = "cancel"
    REPRIORITISE = "reprioritise"


class EventType(StrEnum):
    """CloudEvents types that Trainyard publishes or accepts."""

    RUN_REQUESTED = "trainyard.run.requested"
    RUN_COMMAND = "trainyard.run.command"
    RUN_ACCEPTED = "trainyard.run.accepted"
    RUN_REJECTED = "trainyard.run.rejected"
    RUN_CANCEL_REQUESTED = "trainyard.run.cancel_requested"
    RUN_REPRIORITISED = "trainyard.run.reprioritised"
    RUN_COMPLETED = "trainyard.run.completed"
    RUN_FAILED = "trainyard.run.failed"
    RUN_CANCELLED = "trainyard.run.cancelled"
    ATTEMPT_DISPATCHED = "trainyard.attempt.dispatched"
    ATTEMPT_QUEUED = "trainyard.attempt.queued"
    ATTEMPT_STARTED = "trainyard.attempt.started"
    ATTEMPT_SUCCEEDED = "trainyard.attempt.succeeded"
    ATTEMPT_FAILED = "trainyard.attempt.failed"
    ATTEMPT_CANCELLED = "trainyard.attempt.cancelled"
    ATTEMPT_LOST = "trainyard.attempt.lost"
    ATTEMPT_HEARTBEAT = "trainyard.attempt.heartbeat"

    @property
    def short(self) -> str:
        """The type without its prefix: `run.accepted`."""
        return self.value.removeprefix("trainyard.")


TERMINAL_EVENTS = frozenset(
    {EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED, EventType.RUN_REJECTED}
)

CLONE_SOURCE = "trainyard/clearml-clone"
"""The CloudEvents `source` of a request that a worker publishes for a user's clone; its id is the clone's task id."""

UNSEEN_TAG = "trainyard:unseen"
"""Marks a registered model in ClearML whose attempt has not won yet: archived, so that nobody takes it for one."""
