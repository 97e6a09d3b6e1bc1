"""No dead letter keeps a secret, and everything else stays byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard_dispatcher.intake import answer
from trainyard_runtime.kafka.records import Record
from trainyard_schemas.redaction import redacted, redacted_headers

CANARY = "canary-s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{CANARY}@host/x.csv",
        f"s3://AKIA:{CANARY}@bucket/x.csv",
        f"https://{CANARY}@host/x.csv",
        f"https:\\/\\/user:{CANARY}@host\\/x.csv",
        f"https://host/x.csv?X-Amz-Signature={CANARY}&part=1",
        f"https://host/x.csv?part=1&token={CANARY}",
        f"https://host/x.csv?a=1&SIG={CANARY}#there",
        f'{{"password": "{CANARY}"}}',
        f'{{"aws_secret_access_key" : "{CANARY}\\" and more"}}',
    ],
)
def test_a_secret_is_taken_out_wherever_it_stands(text: str) -> None:
    found = redacted(b"before " + text.encode() + b" after")
    assert found is not None
    assert CANARY.encode() not in found
    assert found.startswith(b"before ")
    assert found.endswith(b" after")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\x00 no text",
        b"me@example.org",
        b"https://host/a@b/c",
        b"https://host/x.csv?part=1&monkey=2",
        b'{"dataset": {"uri": "s3://bucket/key.csv", "label": "token"}}',
        b'{"idempotency_key": "abc"}',
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: bytes) -> None:
    assert redacted(text) is text


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_and_taking_out_twice_takes_nothing_more(value: bytes) -> None:
    once = redacted(value)
    assert redacted(once) == once


def test_headers_that_carry_credentials_lose_their_value() -> None:
    headers = (
        ("Authorization", b"Bearer x"),
        ("X-Auth-Token", b"x"),
        ("content-type", b"application/json"),
        ("a", None),
    )
    assert redacted_headers(headers) == (
        ("Authorization", b"***"),
        ("X-Auth-Token", b"***"),
        ("content-type", b"application/json"),
        ("a", None),
    )


def test_a_refused_request_with_a_secret_in_it_is_kept_without_the_secret_and_says_so() -> None:
    body = {
        "schema_version": 2,
        "trainer": "sklearn",
        "task_type": "classification",
        "dataset": {"type": "tabular", "uri": f"https://user:{CANARY}@host/x.csv", "label": "y"},
    }
    record = Record("t", 0, 1, 2, None, json.dumps(body).encode(), (("cookie", CANARY.encode()),))
    given_answer = answer(record, "default")
    assert given_answer.dead_letter is not None
    assert CANARY not in repr(given_answer)
    assert dict(given_answer.dead_letter.headers)["trainyard-redacted"] == b"secrets"
    assert b"x.csv" in (given_answer.dead_letter.value or b"")
    plain = answer(Record("t", 0, 1, 2, None, b"{}", ()), "default")
    assert plain.dead_letter is not None
    assert "trainyard-redacted" not in dict(plain.dead_letter.headers)
