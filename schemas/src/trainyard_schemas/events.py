"""The facts of a run's life, one class per event type, and their bytes.

Readers tolerate additions (`extra="ignore"`); a class of version n reads everything that version n ever wrote.
Written events are structured CloudEvents: `source` is the service, the extension `writer` one incarnation of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from trainyard_schemas import ids
from trainyard_schemas.accepted_requests import wrong_field
from trainyard_schemas.codec import printable
from trainyard_schemas.envelope import Headers, decode, encode_structured
from trainyard_schemas.errors import FieldError, Invalid
from trainyard_schemas.text import RunId
from trainyard_schemas.vocabulary import EventType, Reason

SCHEMA_VERSION = 1

TaskId = Annotated[str, Field(min_length=1, max_length=64)]
Claim = Annotated[str, Field(min_length=8, max_length=64)]
Attempt = Annotated[int, Field(ge=1, le=1_000)]
Detail = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Fact(BaseModel):
    """What every event of a run holds."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    type: ClassVar[EventType]

    schema_version: Literal[1] = 1
    run_id: RunId

    def key(self) -> tuple[str, ...]:
        """What beside type and run makes this event one of its kind."""
        return ()


class OriginRecord(BaseModel):
    """Where a request stood in Kafka; `timestamp_ms` since the epoch."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @classmethod
    def of(cls, origin: ids.Origin) -> OriginRecord:
        return cls(
            topic=origin.topic, partition=origin.partition, offset=origin.offset, timestamp_ms=origin.timestamp_ms
        )

    def key(self) -> tuple[str, ...]:
        return (self.topic, str(self.partition), str(self.offset), str(self.timestamp_ms))


class FieldProblem(BaseModel):
    """One wrong field of a rejected request."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    path: str
    message: str


class RunAccepted(Fact):
    """A request passed intake; a later one of the same run is a duplicate or, with another digest, a conflict.

    `request` is all of it, upcast to version 2, defaults included."""

    type = EventType.RUN_ACCEPTED
    tenant: str
    request: dict[str, JsonValue]
    request_digest: str
    original_schema_version: int
    unknown: dict[str, JsonValue] = {}
    warnings: tuple[str, ...] = ()
    origin: OriginRecord
    adopts_task: TaskId | None = None
    """The ClearML task, a user's clone of one of ours, that is the run's first attempt instead of a new one."""

    def key(self) -> tuple[str, ...]:
        return self.origin.key()


class RunRejected(Fact):
    """A request was refused; its bytes are in the dead letter of `origin`. Terminal."""

    type = EventType.RUN_REJECTED
    reason: Reason
    detail: Detail
    message: str
    errors: tuple[FieldProblem, ...] = ()
    origin: OriginRecord
    run_name: str | None = None
    project: str | None = None
    trainer: str | None = None
    conflicts_with: RunId | None = None
    state: Literal["rejected"] = "rejected"

    def key(self) -> tuple[str, ...]:
        return self.origin.key()


class RunCancelRequested(Fact):
    """Somebody asked for the end of a run."""

    type = EventType.RUN_CANCEL_REQUESTED
    actor: str
    message: str = ""
    command_id: str

    def key(self) -> tuple[str, ...]:
        return (self.command_id,)


class RunReprioritised(Fact):
    """Somebody changed a run's priority, 0 (last) to 9 (first)."""

    type = EventType.RUN_REPRIORITISED
    actor: str
    message: str = ""
    command_id: str
    priority: Annotated[int, Field(ge=0, le=9)]

    def key(self) -> tuple[str, ...]:
        return (self.command_id,)


class AttemptDispatched(Fact):
    """A ClearML task was made for an attempt. The first one of an attempt wins; only its task is ever enqueued."""

    type = EventType.ATTEMPT_DISPATCHED
    attempt: Attempt
    task_id: TaskId
    queue: str
    queue_id: str
    image: str = ""
    lease_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 60.0
    """How long a worker may train without having read the log: the log tells planners and workers the same."""

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.task_id)


class AttemptQueued(Fact):
    """The attempt's task stands in its queue. A note, not a state."""

    type = EventType.ATTEMPT_QUEUED
    attempt: Attempt
    task_id: TaskId
    queue: str

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.task_id)


class AttemptStarted(Fact):
    """A worker claims an attempt. `claim` is random per pop; the first legal one with the dispatched task wins."""

    type = EventType.ATTEMPT_STARTED
    attempt: Attempt
    task_id: TaskId
    claim: Claim
    worker: str

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.claim)


class AttemptSucceeded(Fact):
    """The claim's holder trained, verified and registered a model. All results are in it."""

    type = EventType.ATTEMPT_SUCCEEDED
    attempt: Attempt
    task_id: TaskId
    claim: Claim
    worker: str
    results: dict[str, JsonValue]

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.claim)


class AttemptFailed(Fact):
    """An attempt failed: said by the claim's holder after its child was reaped, or without a claim by the planner."""

    type = EventType.ATTEMPT_FAILED
    attempt: Attempt
    task_id: TaskId | None = None
    claim: Claim | None = None
    worker: str | None = None
    reason: Reason
    detail: Detail | None = None
    message: str = ""
    results: dict[str, JsonValue] = {}

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.claim or "planner")


class AttemptCancelled(Fact):
    """An attempt was ended on request; by the claim's holder, or without a claim by the planner."""

    type = EventType.ATTEMPT_CANCELLED
    attempt: Attempt
    task_id: TaskId | None = None
    claim: Claim | None = None
    worker: str | None = None
    reason: Reason = Reason.USER
    detail: Detail | None = None
    message: str = ""

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.claim or "planner")


class AttemptLost(Fact):
    """An order of the planner: the attempt's claim is void, its holder must end."""

    type = EventType.ATTEMPT_LOST
    attempt: Attempt
    task_id: TaskId | None = None
    claim: Claim | None = None
    message: str = ""

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.claim or "")


class AttemptHeartbeat(Fact):
    """A sign of life and progress, on its own topic. `seq` grows by one; `eta_s` in seconds; at most one a second."""

    type = EventType.ATTEMPT_HEARTBEAT
    attempt: Attempt
    claim: Claim
    worker: str
    seq: Annotated[int, Field(ge=0)]
    phase: str
    step: float | None = None
    total: float | None = None
    eta_s: float | None = None
    metrics: dict[str, float] = {}

    def key(self) -> tuple[str, ...]:
        return (str(self.attempt), self.claim, str(self.seq))


class RunEnd(Fact):
    """What every terminal event of an accepted run holds; self-contained for subscribers of `runs.completed`.

    Times are RFC 3339 in UTC, durations seconds.
    """

    run_name: str
    project: str
    trainer: str
    tags: tuple[str, ...] = ()
    attempt: int = 0
    task_id: str | None = None
    queue: str | None = None
    worker: str | None = None
    accepted_at: str
    dispatched_at: str | None = None
    started_at: str | None = None
    ended_at: str
    seconds: dict[str, float] = {}
    """How long the run waited and worked: `backlog`, `queue`, `attempt`, `total`; those that there were."""
    retry_of: RunId | None = None
    results: dict[str, JsonValue] = {}


class RunCompleted(RunEnd):
    """The run's model is trained, checked and registered. Terminal."""

    type = EventType.RUN_COMPLETED
    state: Literal["completed"] = "completed"


class RunFailed(RunEnd):
    """The run has no model. Terminal."""

    type = EventType.RUN_FAILED
    state: Literal["failed"] = "failed"
    reason: Reason
    detail: Detail | None = None
    message: str = ""


class RunCancelled(RunEnd):
    """The run was ended on request. Terminal."""

    type = EventType.RUN_CANCELLED
    state: Literal["cancelled"] = "cancelled"
    reason: Reason
    detail: Detail | None = None
    message: str = ""


FACTS: Mapping[EventType, type[Fact]] = {
    cls.type: cls
    for cls in (
        RunAccepted,
        RunRejected,
        RunCancelRequested,
        RunReprioritised,
        AttemptDispatched,
        AttemptQueued,
        AttemptStarted,
        AttemptSucceeded,
        AttemptFailed,
        AttemptCancelled,
        AttemptLost,
        AttemptHeartbeat,
        RunCompleted,
        RunFailed,
        RunCancelled,
    )
}


@dataclass(frozen=True, slots=True)
class Event:
    """A fact with its envelope. `time` is in seconds since the epoch; `source` and `writer` say who wrote it."""

    fact: Fact
    id: str
    time: float
    source: str
    writer: str

    @property
    def type(self) -> EventType:
        return self.fact.type


def make_event(fact: Fact, *, source: str, writer: str, now: float) -> Event:
    """The event of a fact, under its natural id: the same fact has the same id, whoever writes it and however often."""
    return Event(fact, ids.event_id(fact.type, fact.run_id, *fact.key()), now, source, writer)


def dataschema(event_type: EventType) -> str:
    """The name of the schema of an event's data, as in `schemas/draft/<event>/<version>.json`."""
    return f"urn:trainyard:schema:{event_type.short}:{SCHEMA_VERSION}"


def encode_event(event: Event) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The record's value (one line of JSON) and its headers."""
    return encode_structured(
        id=event.id,
        source=event.source,
        type=event.type.value,
        subject=event.fact.run_id,
        time=event.time,
        dataschema=dataschema(event.type),
        data=event.fact.model_dump(mode="json"),
        extensions=(("writer", event.writer),),
    )


def decode_event(value: bytes | None, headers: Headers = ()) -> Event:
    """The event in a record of ours.

    Raises:
        ContractError: the bytes, the envelope, the type or the data are not one of ours.
    """
    envelope = decode(value, headers)
    try:
        fact_class = FACTS[EventType(envelope.type or "")]
    except (ValueError, KeyError):
        raise Invalid("unknown_type", FieldError("type", "is no event that this reader knows")) from None
    try:
        fact = fact_class.model_validate(envelope.data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(printable(part) for part in first["loc"])
        raise Invalid("invalid_field", FieldError(f"data.{path}", first["msg"])) from None
    if isinstance(fact, RunAccepted) and (wrong := wrong_field(fact.request)) is not None:
        raise Invalid("invalid_field", FieldError(f"data.{wrong.path}", wrong.message))
    if envelope.subject is not None and envelope.subject != fact.run_id:
        raise Invalid("invalid_envelope", FieldError("subject", "is not the run_id of the data"))
    writer = envelope.extensions.get("writer")
    return Event(
        fact,
        envelope.id or "",
        envelope.time or 0.0,
        envelope.source or "",
        writer if isinstance(writer, str) else "",
    )


def fact_json(fact: Fact) -> dict[str, Any]:
    """The fact's data as JSON values."""
    return fact.model_dump(mode="json")
