"""What an intake answers to one record, as the simulation needs it. STANDIN until production intake is there."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard_runtime.kafka.records import Record
from trainyard_schemas.envelope import decode
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import Fact, FieldProblem, OriginRecord, RunAccepted, RunRejected
from trainyard_schemas.ids import Origin, run_id_from_event, run_id_from_key, run_id_from_origin
from trainyard_schemas.upcasting import parse_request
from trainyard_simulation.broker import Headers, dead_letter_headers


@dataclass(frozen=True, slots=True)
class Answered:
    """The fact to append and, where the request was refused, the dead letter to keep."""

    fact: Fact
    dead_letter: tuple[bytes | None, Headers] | None


def answer_to(record: Record, tenant: str, now: float) -> Answered:
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp_ms)
    where = OriginRecord.of(origin)
    try:
        envelope = decode(record.value, record.headers, bare_allowed=True)
        parsed = parse_request(envelope.data)
    except ContractError as error:
        run_id = run_id_from_origin(tenant, origin)
        fact = RunRejected(
            run_id=run_id,
            reason=error.reason,
            detail=error.detail,
            message=str(error),
            errors=tuple(FieldProblem(path=e.path, message=e.message) for e in error.errors),
            origin=where,
        )
        headers = record.headers + dead_letter_headers(where, run_id, error.reason.value)
        return Answered(fact, (record.value, headers))
    request = parsed.request
    if request.idempotency_key:
        run_id = run_id_from_key(tenant, request.idempotency_key)
    elif envelope.id and envelope.source:
        run_id = run_id_from_event(tenant, envelope.source, envelope.id)
    else:
        run_id = run_id_from_origin(tenant, origin)
    return Answered(
        RunAccepted(
            run_id=run_id,
            tenant=tenant,
            request=request.to_json(),
            request_digest=request.digest,
            original_schema_version=parsed.original_version,
            origin=where,
        ),
        None,
    )
