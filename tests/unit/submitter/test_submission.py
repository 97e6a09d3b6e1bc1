from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.submitter.story import REQUEST
from trainyard_schemas.codec import MAX_BYTES, encode
from trainyard_schemas.envelope import Mode, decode
from trainyard_schemas.ids import Origin, run_id_from_event, run_id_from_key, run_id_from_origin
from trainyard_schemas.upcasting import parse_request
from trainyard_submitter.errors import InvalidRequest
from trainyard_submitter.submission import SOURCE, Prepared, prepare, submission_of


def prepared(request: Any, key: str | None = None, event_id: str = "e1") -> Prepared:
    return prepare(request, idempotency_key=key, event_id=event_id, tenant="default", now=1_000.0)


def test_a_request_becomes_a_structured_cloudevent_that_intake_reads_back_unchanged() -> None:
    made = prepared(REQUEST)
    envelope = decode(made.value, made.headers)
    assert envelope.mode is Mode.STRUCTURED
    assert (envelope.type, envelope.source, envelope.id) == ("trainyard.run.requested", SOURCE, "e1")
    assert envelope.subject == made.run_id == run_id_from_event("default", SOURCE, "e1")
    assert envelope.data == REQUEST
    assert envelope.dataschema == "urn:trainyard:schema:run.requested:2"


def test_the_same_key_is_the_same_run_whatever_the_event_id() -> None:
    first, second = prepared(REQUEST, "nightly", "e1"), prepared(REQUEST, "nightly", "e2")
    assert first.run_id == second.run_id == run_id_from_key("default", "nightly")
    assert first.digest == second.digest == parse_request(REQUEST).request.digest
    assert decode(first.value, first.headers).data["idempotency_key"] == "nightly"


def test_the_same_event_gives_the_same_bytes_so_that_it_can_be_sent_again() -> None:
    assert prepared(REQUEST).value == prepared(REQUEST).value


def test_a_version_1_body_is_published_as_it_was_given() -> None:
    body = {k: v for k, v in REQUEST.items() if k != "schema_version"} | {"flavour": "old"}
    made = prepared(body)
    envelope = decode(made.value, made.headers)
    assert "schema_version" not in envelope.data
    assert envelope.data["flavour"] == "old"
    assert envelope.dataschema == "urn:trainyard:schema:run.requested:1"
    assert any(w.startswith("flavour:") for w in made.warnings)


def test_a_request_object_is_published_with_its_defaults() -> None:
    request = parse_request(REQUEST).request
    assert decode(prepared(request).value).data == request.to_json()


def test_a_refusal_is_looked_for_under_the_place_where_the_request_stands() -> None:
    origin = Origin("trainyard.runs.requested", 3, 7, 1_000)
    submission = submission_of(prepared(REQUEST, "k"), origin, tenant="default", published_at=1.0)
    assert submission.rejected_run_id == run_id_from_origin("default", origin)
    assert submission.keyed


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"trainer": "magic"}, "trainer"),
        ({"metric": "rmse"}, "metric"),
        ({"run_id": "x"}, "run_id"),
        ({"colour": "red"}, "colour"),
        ({"time_budget_s": -1}, "time_budget_s"),
        ({"time_budget_s": "60"}, "time_budget_s"),
        ({"dataset": {"type": "tabular", "uri": "https://u:p@host/x", "label": "y"}}, "dataset.uri"),
        ({"dataset": {"type": "tabular", "label": "y"}, "dataset_ref": "step-1"}, "dataset_ref"),
        ({"schema_version": 3}, "schema_version"),
        ({"run_name": "a\nb and more"}, "run_name"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_built(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepared(REQUEST | change)
    assert [error.path for error in caught.value.errors] == [path]
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", object(), b"x", 2**70])
def test_what_json_cannot_hold_is_refused_here_and_not_by_intake(value: object) -> None:
    with pytest.raises(InvalidRequest):
        prepared(REQUEST | {"extras": {"sklearn": {"x": value}}})


def test_a_body_that_contains_itself_is_refused() -> None:
    body: dict[str, Any] = dict(REQUEST)
    body["extras"] = {"sklearn": body}
    with pytest.raises(InvalidRequest):
        prepared(body)


def test_two_different_keys_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="idempotency_key: differs"):
        prepared(REQUEST | {"idempotency_key": "a"}, "b")


def test_no_message_repeats_a_secret() -> None:
    uri = "https://host/x?X-Amz-Signature=topsecret"
    with pytest.raises(InvalidRequest) as caught:
        prepared(REQUEST | {"dataset": {"type": "tabular", "uri": uri, "label": "y"}})
    assert "topsecret" not in str(caught.value)


def test_the_value_is_one_line_of_json() -> None:
    value = prepared(REQUEST | {"run_name": "température"}).value
    assert b"\n" not in value
    assert json.loads(value)["data"]["run_name"] == "température"


def test_the_size_that_counts_is_that_of_the_record_and_not_of_the_request_in_it() -> None:
    note = {"note": ""}
    body = {**REQUEST, "extras": {"sklearn": note}}
    note["note"] = "x" * (MAX_BYTES - len(encode(body)))
    assert len(encode(body)) == MAX_BYTES
    with pytest.raises(InvalidRequest, match=r"has 524,\d+ bytes, the limit is 524,288") as caught:
        prepared(body)
    assert caught.value.detail == "too_large"
    note["note"] = "x" * (MAX_BYTES - 2_000)
    assert decode(prepared(body).value).data == body
