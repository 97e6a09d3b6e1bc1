"""CloudEvents in the three modes, and every way in which an envelope can contradict itself."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from trainyard_schemas.envelope import Headers, Mode, decode, encode_structured, format_time
from trainyard_schemas.errors import ContractError, Invalid
from trainyard_schemas.events import decode_event

DATA = {"trainer": "flaml"}
EVENT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "shop", "type": "trainyard.run.requested"}
BINARY: list[tuple[str, bytes | None]] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"shop"),
    ("ce_type", b"trainyard.run.requested"),
    ("content-type", b"application/json"),
]
STRUCTURED: list[tuple[str, bytes | None]] = [("content-type", b"application/cloudevents+json; charset=utf-8")]


def _body(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (EVENT | {"data": DATA} | changes).items() if v is not ...}).encode()


def test_a_structured_event_is_read_with_and_without_its_content_type() -> None:
    with_header = decode(_body(time="2026-11-05T08:00:00Z", subject="s", tenantid="x"), STRUCTURED)
    assert with_header.mode is Mode.STRUCTURED
    assert (with_header.id, with_header.source, with_header.subject) == ("1", "shop", "s")
    assert with_header.time == 1793865600.0
    assert with_header.extensions == {"tenantid": "x"}
    assert decode(_body()).mode is Mode.STRUCTURED


def test_a_binary_event_is_read_whatever_the_case_of_its_headers() -> None:
    headers = [(name.upper(), value) for name, value in BINARY]
    event = decode(json.dumps(DATA).encode(), headers)
    assert event.mode is Mode.BINARY
    assert (event.id, event.source, event.type, event.data) == ("1", "shop", "trainyard.run.requested", DATA)


def test_a_bare_body_is_read_only_where_it_may_be() -> None:
    value = json.dumps(DATA).encode()
    assert decode(value, bare_allowed=True).mode is Mode.BARE
    assert decode(value, [("content-type", b"application/json")], bare_allowed=True).data == DATA
    with pytest.raises(Invalid, match="specversion"):
        decode(value)


def test_nothing_in_data_base64_and_a_time_in_lower_case_are_read() -> None:
    event = decode(_body(data_base64=None, time="2026-11-05t08:00:00z"))
    assert (event.data, event.time) == (DATA, 1_793_865_600.0)


def test_headers_of_others_do_not_matter_even_if_null_or_not_utf8() -> None:
    strangers: Headers = [("traceparent", None), ("x", b"\xff\xfe"), ("x", b"2"), ("", b"")]
    assert decode(json.dumps(DATA).encode(), strangers, bare_allowed=True).data == DATA


@pytest.mark.parametrize(
    ("value", "headers", "path"),
    [
        (_body(), [("ce_id", b"2")], "ce_id"),
        (_body(), [("ce_type", b"trainyard.run.completed"), *STRUCTURED], "ce_type"),
        (_body(data=...), [], "data"),
        (_body(data=[DATA]), [], "data"),
        (_body(data=None), [], "data"),
        (_body(data_base64="e30="), [], "data_base64"),
        (_body(data=..., data_base64="e30="), [], "data_base64"),
        (b'{"a": 1}', [("ce-specversion", b"1.0"), ("ce-id", b"1")], "ce-specversion"),
        (b'{"a": 1}', [("cloudEvents:specversion", b"1.0")], "cloudEvents:specversion"),
        (_body(specversion="0.3"), [], "specversion"),
        (_body(specversion=1.0), [], "specversion"),
        (_body(specversion=...), STRUCTURED, "specversion"),
        (_body(id=...), [], "id"),
        (_body(id=""), [], "id"),
        (_body(id=7), [], "id"),
        (_body(source=...), [], "source"),
        (_body(type=...), [], "type"),
        (_body(type="x\ny"), [], "type"),
        (_body(subject="s" * 2_000), [], "subject"),
        (_body(source="\u202eevil"), [], "source"),
        (_body(time="yesterday"), [], "time"),
        (_body(time="99999-01-01T00:00:00Z"), [], "time"),
        (b'{"a": 1}', [("ce_id", b"1")], "ce_specversion"),
        (b'{"a": 1}', BINARY[:1], "id"),
        (b'{"a": 1}', [*BINARY[:4], ("content-type", b"application/avro")], "content-type"),
        (b'{"a": 1}', [*BINARY, ("ce_id", b"2")], "ce_id"),
        (b'{"a": 1}', [*BINARY[1:], ("ce_specversion", b"\xff")], "ce_specversion"),
        (b'{"a": 1}', [*BINARY[1:], ("ce_specversion", None)], "ce_specversion"),
        (b'{"a": 1}', [("x", b"1")] * 10_000, "headers"),
        (b'{"a": 1}', [*BINARY, ("ce_\x1b[31m", b"\xff")], "ce_?[31m"),
    ],
)
def test_a_contradictory_or_incomplete_envelope_is_refused_by_the_name_of_its_attribute(
    value: bytes, headers: Headers, path: str
) -> None:
    before = time.thread_time()
    with pytest.raises(Invalid) as refused:
        decode(value, headers, bare_allowed=True)
    assert time.thread_time() - before < 0.05
    assert [error.path for error in refused.value.errors] == [path]
    assert refused.value.detail == "invalid_envelope"
    assert str(refused.value).isprintable()


def test_what_is_written_is_read_again() -> None:
    value, headers = encode_structured(
        id="1", source="trainyard/test", type="t", subject="s", time=9.25, dataschema="urn:x", data=DATA,
        extensions=[("writer", "w")],
    )  # fmt: skip
    event = decode(value, [(name, text) for name, text in headers])
    assert (event.id, event.source, event.type, event.subject, event.time) == ("1", "trainyard/test", "t", "s", 9.25)
    assert (event.dataschema, event.data, event.extensions) == ("urn:x", DATA, {"writer": "w"})


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("2026-11-05T09:00:00+01:00", "2026-11-05T08:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.000000Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.000000Z"),
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_the_times_at_the_ends_of_the_calendar_are_written_again(read: str, written: str) -> None:
    event = decode(_body(time=read))
    assert event.time is not None
    assert format_time(event.time) == written


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"type": "trainyard.run.invented"}, "type"),
        ({"type": "trainyard.run.requested"}, "type"),
        ({"type": "com.example.order"}, "type"),
        ({"type": "trainyard.attempt.queued", "subject": "another run"}, "subject"),
        ({"type": "trainyard.attempt.queued", "data": {}}, "data.run_id"),
        ({"type": "trainyard.attempt.heartbeat", "bad_metric": True}, "data.metrics.?[31m"),
    ],
)
def test_an_event_that_is_not_ours_is_refused_by_name(changes: dict[str, Any], path: str) -> None:
    run = "0b9a6c1e-0000-5000-8000-000000000000"
    data: dict[str, Any] = {"run_id": run, "attempt": 1, "task_id": "t", "queue": "cpu"}
    changes = dict(changes)
    if changes.pop("bad_metric", False):
        data |= {"claim": "12345678", "worker": "w", "seq": 0, "phase": "fit", "metrics": {"\x1b[31m": "x"}}
    with pytest.raises(ContractError) as refused:
        decode_event(_body(**({"data": data} | changes)))
    assert [error.path for error in refused.value.errors] == [path]
