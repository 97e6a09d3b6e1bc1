"""From an intent to the one record that is published: pure, so that the same intent gives the same bytes again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from trainyard_schemas import ids
from trainyard_schemas.codec import decode_object, encode
from trainyard_schemas.envelope import encode_structured
from trainyard_schemas.errors import ContractError, FieldError
from trainyard_schemas.runs import RunRequest
from trainyard_schemas.upcasting import parse_request
from trainyard_schemas.vocabulary import EventType
from trainyard_submitter.errors import InvalidRequest

SOURCE = "trainyard/submitter"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked request as the record that asks for it.

    `run_id` is the run that it will be if it is accepted; `digest` and `request` are those of the upcast request,
    `warnings` sentences about what will not be used. `keyed` says that the run may be there already, of any age.
    """

    run_id: str
    event_id: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    request: RunRequest
    keyed: bool
    warnings: tuple[str, ...]

    @property
    def digest(self) -> str:
        return self.request.digest


@dataclass(frozen=True, slots=True)
class Submission:
    """An acknowledged request. `origin` is where it stands in Kafka, `published_at` seconds since the epoch.

    Should intake refuse it, the refusal is found under `rejected_run_id`: a bad request burns no idempotency key.
    """

    run_id: str
    event_id: str
    origin: ids.Origin
    rejected_run_id: str
    request: RunRequest
    keyed: bool
    published_at: float
    warnings: tuple[str, ...] = ()


def prepare(
    request: RunRequest | Mapping[str, Any],
    *,
    idempotency_key: str | None,
    event_id: str,
    tenant: str,
    now: float,
    source: str = SOURCE,
) -> Prepared:
    """Check a request as intake will, and build its event.

    A mapping is published as it was given, its version included, so that intake records what was really sent.

    Raises:
        InvalidRequest: every wrong field is named.
    """
    body = dict(request.to_json() if isinstance(request, RunRequest) else request)
    if idempotency_key is not None:
        if body.get("idempotency_key") not in (None, idempotency_key):
            _refuse("idempotency_key", "differs between the request and the argument; give it once")
        body["idempotency_key"] = idempotency_key
    try:
        parsed = parse_request(_as_sent(body))
    except ContractError as error:
        raise InvalidRequest(error.detail, error.errors) from None
    if parsed.request.dataset_ref is not None:
        _refuse("dataset_ref", "is only known inside a pipeline; give dataset.uri or dataset.clearml")
    key = parsed.request.idempotency_key
    run_id = ids.run_id_from_key(tenant, key) if key else ids.run_id_from_event(tenant, source, event_id)
    value, headers = encode_structured(
        id=event_id,
        source=source,
        type=EventType.RUN_REQUESTED.value,
        subject=run_id,
        time=now,
        dataschema=f"urn:trainyard:schema:run.requested:{parsed.original_version}",
        data=body,
    )
    try:
        decode_object(value)  # intake's limits hold for the whole record, which is larger than the request in it
    except ContractError as error:
        raise InvalidRequest(error.detail, error.errors) from None
    return Prepared(run_id, event_id, value, tuple(headers), parsed.request, key is not None, parsed.warnings)


def submission_of(prepared: Prepared, origin: ids.Origin, *, tenant: str, published_at: float) -> Submission:
    """What the caller gets once the record is acknowledged at `origin`."""
    return Submission(
        run_id=prepared.run_id,
        event_id=prepared.event_id,
        origin=origin,
        rejected_run_id=ids.run_id_from_origin(tenant, origin),
        request=prepared.request,
        keyed=prepared.keyed,
        published_at=published_at,
        warnings=prepared.warnings,
    )


def _as_sent(body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` as intake will read it: through the bytes, so that what JSON cannot hold is refused here."""
    try:
        value = encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        message = "nests too deep" if isinstance(error, RecursionError) else str(error)
        _refuse("", f"the request cannot be written as JSON: {message}")
    return decode_object(value)


def _refuse(path: str, message: str) -> NoReturn:
    raise InvalidRequest("invalid_field", (FieldError(path, message),))
