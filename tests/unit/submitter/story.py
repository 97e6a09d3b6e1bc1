"""A run's life as records, for tests: made by the same code that services write events with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from trainyard_runtime.kafka.records import Record
from trainyard_schemas import events as ev
from trainyard_schemas.events import encode_event, make_event
from trainyard_schemas.ids import Origin, partition_of
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_schemas.upcasting import parse_request
from trainyard_schemas.vocabulary import Reason

REQUEST = {
    "schema_version": 2,
    "trainer": "sklearn",
    "task_type": "classification",
    "metric": "accuracy",
    "dataset": {"type": "tabular", "uri": "examples/wine.csv", "label": "target"},
    "run_name": "wine-sklearn",
}
RESULTS: dict[str, JsonValue] = {
    "metric": "accuracy",
    "value": 0.9722,
    "baseline": 0.3889,
    "seconds": {"data": 0.1, "fit": 1.5},
    "model": {"id": "m1", "uri": "http://files/model.tar.gz"},
}
CLAIM = "c" * 32
TASK = "f" * 32


def accepted(run_id: str, origin: Origin, request: dict[str, object] | None = None) -> ev.RunAccepted:
    parsed = parse_request(request or REQUEST)
    return ev.RunAccepted(
        run_id=run_id,
        tenant="default",
        request=parsed.request.to_json(),
        request_digest=parsed.request.digest,
        original_schema_version=parsed.original_version,
        origin=ev.OriginRecord.of(origin),
    )


def rejected(run_id: str, origin: Origin, conflicts_with: str | None = None) -> ev.RunRejected:
    return ev.RunRejected(
        run_id=run_id,
        reason=Reason.INVALID_REQUEST,
        detail="idempotency_conflict" if conflicts_with else "invalid_field",
        message="queue: is served by nobody",
        origin=ev.OriginRecord.of(origin),
        conflicts_with=conflicts_with,
    )


def dispatched(run_id: str) -> ev.AttemptDispatched:
    return ev.AttemptDispatched(run_id=run_id, attempt=1, task_id=TASK, queue="cpu", queue_id="q" * 32)


def started(run_id: str) -> ev.AttemptStarted:
    return ev.AttemptStarted(run_id=run_id, attempt=1, task_id=TASK, claim=CLAIM, worker="host:1")


def heartbeat(run_id: str, claim: str = CLAIM) -> ev.AttemptHeartbeat:
    return ev.AttemptHeartbeat(
        run_id=run_id, attempt=1, claim=claim, worker="host:1", seq=1, phase="fit", step=1, total=3, eta_s=2.4
    )


def succeeded(run_id: str) -> ev.AttemptSucceeded:
    return ev.AttemptSucceeded(
        run_id=run_id, attempt=1, task_id=TASK, claim=CLAIM, worker="host:1", results=dict(RESULTS)
    )


def completed(run_id: str) -> ev.RunCompleted:
    return ev.RunCompleted(
        run_id=run_id,
        run_name="wine-sklearn",
        project="AutoML",
        trainer="sklearn",
        attempt=1,
        accepted_at="2026-01-01T00:00:00Z",
        ended_at="2026-01-01T00:00:05Z",
        results=dict(RESULTS),
    )


def whole_life(run_id: str, origin: Origin) -> list[ev.Fact]:
    return [
        accepted(run_id, origin),
        dispatched(run_id),
        ev.AttemptQueued(run_id=run_id, attempt=1, task_id=TASK, queue="cpu"),
        started(run_id),
        succeeded(run_id),
        completed(run_id),
    ]


def encoded(fact: ev.Fact, now: float = 1_000.0) -> tuple[bytes, list[tuple[str, bytes]]]:
    return encode_event(make_event(fact, source="trainyard/test", writer="w" * 32, now=now))


@dataclass
class Log:
    """Facts as records of one topic, with offsets as they come and a second between them."""

    topic: str = "trainyard.runs.lifecycle"
    records: list[Record] = field(default_factory=list)

    def append(self, facts: Sequence[ev.Fact], first_time: float = 1_000.0) -> list[Record]:
        added = []
        for index, fact in enumerate(facts):
            value, headers = encoded(fact, first_time + index)
            partition = partition_of(fact.run_id, RUN_PARTITIONS)
            offset = len(self.records) + index
            added.append(Record(self.topic, partition, offset, 1_000_000, fact.run_id.encode(), value, tuple(headers)))
        self.records += added
        return added
