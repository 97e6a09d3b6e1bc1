"""No dead letter keeps a secret, and everything else stays byte for byte."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.timing import in_time
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
        f"s3://AKIA:abc/{CANARY}+gh@bucket/key",
        f"https://bob:p@{CANARY}@host/",
        f'"https://bob:p\\"{CANARY}@host/"',
        f"https://bob:p<{CANARY}@host/",
        f'"https://bob:two words {CANARY}@host/"',
        f"https://host:80/ and ftp://bob:{CANARY}@host/",
        f"https:/bob:{CANARY}@host/",
        f"https:bob:{CANARY}@host/",
        f"//bob:{CANARY}@host/",
        f'"https:\\\\bob:{CANARY}@host/"',
        f"https:\\u002F\\u002fbob:{CANARY}@host",
        f"https://bob:{CANARY}\\u0040host",
        f"https%3A%2F%2Fbob%3A{CANARY}%40host",
        f"https%253A%252F%252Fbob%253A{CANARY}%2540host",
        f"?to%6ben={CANARY}",
        f"?to\\u006ben={CANARY}",
        f"x.csv%3Ftoken={CANARY}",
        f"https://host/x.csv?a=1;token={CANARY}",
        f"https://host/x.csv#access_token={CANARY}",
        f"https://host/x.csv?code={CANARY}",
        f"https://host/x.csv?AWSSecretKey={CANARY}",
        f"token={CANARY}",
        f'{{"token={CANARY}": 1}}',
        f'{{"p\\u0061ssword": "{CANARY}"}}',
        f'{{"session_token": "{CANARY}"}}',
        f'{{"private_key": "{CANARY}"}}',
        f'{{"secretKey": "{CANARY}"}}',
        f'{{"DB_PASSWORD": {CANARY}}}',
        f"{{'password': '{CANARY}'}}",
        json.dumps({"data": json.dumps({"password": f'"{CANARY}', "a": 1})}),
        f"\npassword: two words {CANARY}\n",
        f"\r\n  - password: {CANARY}\r\n",
        f"https://host/x.csv?next=https://other/?token={CANARY}",
        f'{{"label": "y, "password": "{CANARY}"}}',
        f"\nAWS_SECRET_ACCESS_KEY={CANARY}\n",
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
        b'{"uri":"https://host:8443/x.csv","tags":["team@example.org"],"password":null}',
        b'{"notes": "see https://host/x at 12:30 or mail team@example.org"}',
        b'{"notes": "see https://host:80/x or [::1]:80 or mail team@example.org", "path": "C:\\\\x me@example.org"}',
        b'{"uri":"https:\\/\\/host\\u002fa%20b?version=3&versionId=a&response-content-type=b&x-id=c"}',
        b'{"uri": "s3://bucket/session=5/code=3/key=1.csv", "key": "k", "code": 3, "signature": "s"}',
        "trainer: flaml\nqueue: a@b\n".encode("utf-16"),
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: bytes) -> None:
    assert redacted(text) is text


def test_a_number_is_a_secret_too_and_json_stays_json() -> None:
    assert json.loads(redacted(b'{"password": 998877665544, "pwd":-1e5}') or b"") == {"password": "***", "pwd": "***"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", [f'{{"password": "{CANARY}"}}', f"https://bob:{CANARY}@host", f"password: {CANARY}"])
def test_a_body_of_wide_characters_hides_no_secret(text: str, encoding: str) -> None:
    found = redacted(text.encode(encoding)) or b""
    assert b"***" in found
    assert CANARY.encode() not in found.replace(b"\0", b"")


def test_what_yaml_folds_under_a_secrets_name_goes_with_it() -> None:
    text = f"a:\n  password: |\n    {CANARY}\n    {CANARY}\nb: 1\n"
    assert redacted(text.encode()) == b"a:\n  password: ***\nb: 1\n"


def test_a_body_that_ends_within_a_secret_keeps_none_of_it() -> None:
    assert redacted(f'{{"password": "{CANARY}'.encode()) == b'{"password": "***"'


_PIECES = (
    "://",
    "//",
    ":",
    "@",
    "/",
    "https:",
    "?token=",
    "password: ",
    "'",
    "a",
    "80",
    " ",
    "\\",
    '"',
    "\n",
    "%3a",
    "&",
)


@given(st.lists(st.sampled_from(_PIECES), max_size=20), st.lists(st.sampled_from(_PIECES), max_size=20))
def test_json_stays_json(name: list[str], text: list[str]) -> None:
    document = {
        "a": "".join(text),
        "password": "".join(text),
        "".join(name): json.dumps({"pwd": "".join(text)}),
        "z": 1,
    }
    found = json.loads(redacted(json.dumps(document).encode()) or b"")
    assert (len(found), found["password"], found["z"]) == (len(document), "***", 1)


@pytest.mark.timed
@pytest.mark.parametrize(
    "piece",
    [
        ":",
        "@",
        "//",
        "://",
        "://a:b ",
        "://a:80/@ ",
        "@ :// ",
        "https:",
        "\\",
        "\\u0041",
        "%41",
        '"',
        '"a":"',
        "'a':'",
        '\\"a\\":',
        "?a=b",
        "?token=x&",
        "a",
        "=",
        "a:|\n",
        "password:\n",
        " ",
        "\n",
        "-",
    ],
)
def test_half_a_mebibyte_of_one_hostile_piece_is_looked_through_in_linear_time(piece: str) -> None:
    for begin in ("", "https://a:b"):
        value = (begin + piece * (512 * 1024 // len(piece)) + "@").encode()
        began = time.process_time()
        redacted(value)
        in_time(1.0, time.process_time() - began)


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
