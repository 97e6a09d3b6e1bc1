"""Every request gets one answer: accepted, or rejected with a dead letter. Pure.

On `runs.requested` anybody publishes, with any key and any client: a CloudEvent (structured or binary) or a bare JSON
body. Nothing here raises for what a record may hold, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_runtime.kafka.records import Record
from trainyard_schemas import events as ev
from trainyard_schemas.codec import decode_object, printable
from trainyard_schemas.envelope import Envelope, Headers, Mode, decode
from trainyard_schemas.errors import ContractError, FieldError, Invalid, Malformed
from trainyard_schemas.ids import run_id_from_event, run_id_from_key, run_id_from_origin
from trainyard_schemas.redaction import redacted, redacted_headers
from trainyard_schemas.upcasting import ParsedRequest, parse_request, version_of
from trainyard_schemas.vocabulary import CLONE_SOURCE, EventType, Reason

MAX_MESSAGE_CHARACTERS = 2_000
DATASCHEMA_PREFIX = "urn:trainyard:schema:run.requested:"
HEADER_PREFIX = "trainyard-"
OMITTED_HEADER = ("trainyard-omitted", b"the record was too large for the dead-letter topic; read it at its origin")
MAX_KEPT_BYTES = 2 * 1024 * 1024
"""What a dead-letter topic takes. A few bytes that somebody has compressed well can be gigabytes here."""
_AS_WRITTEN = "x" * 64
"""As long as any source and writer of ours, so that nothing fits here that does not fit as written."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is kept of a record that was refused: its own bytes, with headers added that say why and whence."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one record. A rejection has a dead letter, an acceptance none."""

    fact: ev.RunAccepted | ev.RunRejected
    dead_letter: DeadLetter | None = None

    @property
    def run_id(self) -> str:
        """The run that the answer stands under."""
        return self.fact.run_id


def answer(record: Record, tenant: str) -> Answer:
    """The one answer to a record of `runs.requested`.

    An accepted run's id comes from the request's idempotency key, else from the CloudEvent's source and id, else from
    where the record stands. A rejection always stands under the record's place, so it burns no key.
    """
    envelope: Envelope | None = None
    try:
        if record.unreadable:
            raise Malformed("unreadable", FieldError("", f"the record cannot be read: {record.unreadable}"))
        envelope = decode(record.value, record.headers, bare_allowed=True)
        _fits_the_topic(envelope)
        parsed = parse_request(envelope.data)
        _fits_this_door(parsed)
        accepted = _accepted(record, tenant, envelope, parsed)
        _fits_the_log(accepted)
    except ContractError as error:
        return _rejected(record, tenant, error, envelope.data if envelope is not None else content(record))
    return Answer(accepted)


def reject_as_internal(record: Record, tenant: str, error: Exception) -> Answer:
    """The answer to a record on which our own code failed. The message names the kind of failure, not its text."""
    problem = ContractError("unexpected_error", FieldError("", f"an error of Trainyard's own ({type(error).__name__})"))
    return _rejected(record, tenant, problem, {}, reason=Reason.INTERNAL)


def reject_as_too_large(record: Record, tenant: str) -> Answer:
    """The answer to a request that is legal, but whose `run.accepted` is more than the log takes."""
    problem = ContractError("too_large", FieldError("", "the request is too large to be kept; send a smaller one"))
    return _rejected(record, tenant, problem, {})


def dead_letter(record: Record, run_id: str, reason: str, detail: str, message: str) -> DeadLetter:
    """A record's bytes and headers, and headers of ours that say why it is here and whence it came.

    Unchanged, but for secrets, which no dead letter may keep (`trainyard-redacted` says that there were some), and for
    what an earlier refusal of the same record had added: a dead letter may be sent again as it is. A record that is
    larger than the topic takes is left out, and `trainyard-omitted` says so.
    """
    why = {
        "reason": reason,
        "detail": detail,
        "message": message,
        "run-id": run_id,
        "origin-topic": record.topic,
        "origin-partition": str(record.partition),
        "origin-offset": str(record.offset),
        "origin-timestamp": str(record.timestamp_ms),
    }
    own = tuple((name, text) for name, text in record.headers if not name.startswith(HEADER_PREFIX))
    if _size(record.key, record.value, own) > MAX_KEPT_BYTES:
        return DeadLetter(None, b"", (*_added(why), OMITTED_HEADER))
    key, value, headers = redacted(record.key), redacted(record.value), redacted_headers(own)
    if (key, value, headers) != (record.key, record.value, own):
        why["redacted"] = "secrets"
    return DeadLetter(key, value, (*headers, *_added(why)))


def _added(why: Mapping[str, str]) -> Headers:
    return tuple((HEADER_PREFIX + name, text.encode()) for name, text in why.items())


def _size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    return len(key or b"") + len(value or b"") + sum(len(name) + len(text or b"") for name, text in headers)


def _fits_the_topic(envelope: Envelope) -> None:
    if envelope.mode is Mode.BARE:
        return
    if envelope.type != EventType.RUN_REQUESTED:
        raise Invalid(
            "unknown_type",
            FieldError(
                "type", f"'{printable(envelope.type)}' does not belong here; send {EventType.RUN_REQUESTED.value}"
            ),
        )
    schema = envelope.dataschema or ""
    named = schema.removeprefix(DATASCHEMA_PREFIX)
    if named != schema and named != str(version_of(envelope.data)):
        raise Invalid(
            "invalid_envelope", FieldError("dataschema", "contradicts data.schema_version; send the same version")
        )


def _fits_this_door(parsed: ParsedRequest) -> None:
    if parsed.request.dataset_ref is not None:
        raise Invalid(
            "dataset_ref",
            FieldError("dataset_ref", "names a step of a pipeline; outside of one give dataset.uri or dataset.clearml"),
        )


def _fits_the_log(fact: ev.RunAccepted) -> None:
    """Refuse what no reader of the log would take: with defaults and envelope a request at the limits passes them."""
    value, headers = ev.encode_event(ev.make_event(fact, source=_AS_WRITTEN, writer=_AS_WRITTEN, now=0.0))
    try:
        ev.decode_event(value, headers)
    except ContractError as error:
        message = f"with its defaults and its envelope the request is more than can be kept: {error}; send less"
        raise Malformed(error.detail, FieldError("", message)) from None


def _accepted(record: Record, tenant: str, envelope: Envelope, parsed: ParsedRequest) -> ev.RunAccepted:
    request = parsed.request
    if request.idempotency_key is not None:
        run_id = run_id_from_key(tenant, request.idempotency_key)
    elif envelope.source is not None and envelope.id is not None:
        run_id = run_id_from_event(tenant, envelope.source, envelope.id)
    else:
        run_id = run_id_from_origin(tenant, record.origin)
    return ev.RunAccepted(
        run_id=run_id,
        tenant=tenant,
        request=request.to_json(),
        request_digest=request.digest,
        original_schema_version=parsed.original_version,
        unknown=dict(parsed.unknown),
        warnings=parsed.warnings,
        origin=ev.OriginRecord.of(record.origin),
        adopts_task=envelope.id if envelope.source == CLONE_SOURCE else None,
    )


def _rejected(
    record: Record, tenant: str, error: ContractError, data: Mapping[str, Any], *, reason: Reason | None = None
) -> Answer:
    run_id = run_id_from_origin(tenant, record.origin)
    fact = ev.RunRejected(
        run_id=run_id,
        reason=reason or error.reason,
        detail=error.detail,
        message=printable(str(error), MAX_MESSAGE_CHARACTERS),
        errors=_problems(error.errors),
        origin=ev.OriginRecord.of(record.origin),
        run_name=_name(data, "run_name"),
        project=_name(data, "project"),
        trainer=_name(data, "trainer"),
    )
    return Answer(fact, dead_letter(record, run_id, fact.reason.value, fact.detail, fact.message))


def content(record: Record) -> Mapping[str, Any]:
    """What is asked for in a record with a wrong envelope, as far as it can be read."""
    try:
        document = decode_object(None if record.unreadable else record.value)
    except ContractError:
        return {}
    data = document.get("data")
    return data if isinstance(data, dict) else document


def _problems(errors: Sequence[FieldError]) -> tuple[ev.FieldProblem, ...]:
    return tuple(
        ev.FieldProblem(path=printable(e.path, 500), message=printable(e.message, MAX_MESSAGE_CHARACTERS))
        for e in errors
    )


def _name(data: Mapping[str, Any], field: str) -> str | None:
    """What the sender called it, where that is text, made safe to show."""
    value = data.get(field)
    return printable(value, 256) if isinstance(value, str) and value.strip() else None
