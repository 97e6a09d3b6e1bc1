"""CloudEvents 1.0 at the bytes boundary of Kafka, without a Kafka client.

Three modes are read: *structured* (the value is the whole event), *binary* (`ce_` headers, the value is the data), and
*bare* (the value is just the data; only where a topic allows it). One is written: structured JSON.
Source: CloudEvents 1.0.2 and its Kafka protocol binding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from trainyard_schemas.codec import decode_object, encode, printable
from trainyard_schemas.errors import FieldError, Invalid

Headers = Sequence[tuple[str, bytes | None]]

STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"
MAX_HEADERS = 256
_ATTRIBUTES = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"}
)
_SPECVERSION_ELSEWHERE = frozenset({"ce-specversion", "cloudevents:specversion", "cloudevents_specversion"})
"""CloudEvents over HTTP and AMQP: read as a bare request, such an event would be another one each time it is sent."""

_MAX_ATTRIBUTE_CHARACTERS = 1024
_YEAR_1_S, _YEAR_9999_END_S = -62_135_596_800.0, 253_402_300_799.0


class Mode(StrEnum):
    """How an event was written into its record."""

    STRUCTURED = "structured"
    BINARY = "binary"
    BARE = "bare"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event as read. In bare mode every attribute but `data` is None.

    `time` is in seconds since the epoch, as a float; `extensions` holds all attributes beyond CloudEvents' own.
    """

    mode: Mode
    data: Mapping[str, Any]
    id: str | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    time: float | None = None
    dataschema: str | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)


def decode(value: bytes | None, headers: Headers = (), *, bare_allowed: bool = False) -> Envelope:
    """The event in a record.

    Raises:
        Malformed: the value is not one JSON object within the limits.
        Invalid: the attributes are missing, contradictory or of a wrong type.
    """
    ce, content_type = _ce_headers(headers)
    if "specversion" in ce and not content_type.startswith(STRUCTURED_CONTENT_TYPE):
        if content_type and not _is_json(content_type):
            raise _invalid("content-type", "is not JSON; send application/json")
        return _envelope(Mode.BINARY, ce, decode_object(value))
    document = decode_object(value)
    if "specversion" in document or content_type.startswith(STRUCTURED_CONTENT_TYPE):
        for name, text in ce.items():
            if name in document and document[name] != text:
                raise _invalid(f"ce_{printable(name)}", "contradicts the same attribute in the body; send one of them")
        data = document.get("data")
        if document.get("data_base64") is not None:
            raise _invalid("data_base64", "is not read here; send the event's content as JSON under data")
        if not isinstance(data, dict):
            raise _invalid("data", "is missing or not a JSON object; send the event's content there")
        return _envelope(Mode.STRUCTURED, {k: v for k, v in document.items() if k != "data"}, data)
    if not bare_allowed:
        raise _invalid("specversion", "is missing; records on this topic are CloudEvents 1.0")
    if ce:
        raise _invalid("ce_specversion", "is missing beside other ce_ headers; send all required ones or none")
    for name, _ in headers:
        if name.lower() in _SPECVERSION_ELSEWHERE:
            raise _invalid(name, "is how other protocols name it; on Kafka the headers are ce_specversion, ce_id, ...")
    return Envelope(Mode.BARE, document)


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")


def _ce_headers(headers: Headers) -> tuple[dict[str, str], str]:
    if len(headers) > MAX_HEADERS:
        raise _invalid("headers", f"are {len(headers):,}, the limit is {MAX_HEADERS}")
    attributes: dict[str, str] = {}
    content_type = ""
    for name, raw in headers:
        lower = name.lower()
        if lower != "content-type" and not lower.startswith("ce_"):
            continue
        try:
            text = (raw or b"").decode("utf-8")
        except UnicodeDecodeError:
            raise _invalid(printable(name), "is a header that is not UTF-8") from None
        if raw is None:
            raise _invalid(printable(name), "is a header without a value")
        if lower == "content-type":
            content_type = text.strip().lower()
            continue
        attribute = lower.removeprefix("ce_")
        if attributes.setdefault(attribute, text) != text:
            raise _invalid(printable(name), "is a header that stands twice with different values")
    return attributes, content_type


def _envelope(mode: Mode, attributes: Mapping[str, Any], data: Mapping[str, Any]) -> Envelope:
    if attributes.get("specversion") != "1.0":
        raise _invalid("specversion", "is not '1.0'")
    texts: dict[str, str | None] = {}
    for name in ("id", "source", "type", "subject", "time", "dataschema"):
        text = attributes.get(name)
        if text is None and name in ("id", "source", "type"):
            raise _invalid(name, "is missing; CloudEvents requires it")
        if text is not None and (not isinstance(text, str) or not text):
            raise _invalid(name, "is not a non-empty string")
        if text is not None and (len(text) > _MAX_ATTRIBUTE_CHARACTERS or not text.isprintable()):
            raise _invalid(name, f"holds control characters or more than {_MAX_ATTRIBUTE_CHARACTERS} characters")
        texts[name] = text
    return Envelope(
        mode=mode,
        data=data,
        id=texts["id"],
        source=texts["source"],
        type=texts["type"],
        subject=texts["subject"],
        time=_parse_time(texts["time"]),
        dataschema=texts["dataschema"],
        extensions={k: v for k, v in attributes.items() if k not in _ATTRIBUTES},
    )


def _parse_time(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())  # RFC 3339 has t and z too
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise _invalid("time", "is not an RFC 3339 time, like 2026-01-31T12:00:00Z") from None


def _invalid(path: str, message: str) -> Invalid:
    return Invalid("invalid_envelope", FieldError(path, message))


def format_time(epoch_s: float) -> str:
    """RFC 3339 in UTC with microseconds; what is outside the years 1 to 9999 becomes their first or last second."""
    return (
        datetime.fromtimestamp(min(max(epoch_s, _YEAR_1_S), _YEAR_9999_END_S), UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def encode_structured(
    *,
    id: str,
    source: str,
    type: str,
    subject: str,
    time: float,
    dataschema: str,
    data: Mapping[str, Any],
    extensions: Iterable[tuple[str, str]] = (),
) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The value (one line of JSON) and the headers of a record. `time` in seconds since the epoch."""
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": type,
        "subject": subject,
        "time": format_time(time),
        "datacontenttype": "application/json",
        "dataschema": dataschema,
        **dict(extensions),
        "data": data,
    }
    return encode(document), [("content-type", f"{STRUCTURED_CONTENT_TYPE}; charset=utf-8".encode())]
