"""Every kind of bad bytes: refused fast, in bounded memory, with a code of its own."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.timing import in_time
from trainyard_schemas import codec
from trainyard_schemas.errors import Malformed

BAD_BYTES: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "tombstone"),
    "empty": (b"", "empty"),
    "white space": (b" \r\n\t", "empty"),
    "not UTF-8": (b'{"run_name": "\xff"}', "not_utf8"),
    "latin-1": ('{"run_name": "Übung"}'.encode("latin-1"), "not_utf8"),
    "byte order mark": (b'\xef\xbb\xbf{"trainer": "flaml"}', "byte_order_mark"),
    "UTF-16": ('{"trainer": "flaml"}'.encode("utf-16"), "not_utf8"),
    "UTF-16 without a mark": ('{"trainer": "flaml"}'.encode("utf-16-le"), "not_json"),
    "truncated": (b'{"trainer": "fla', "not_json"),
    "truncated inside a character": ('{"a": "é'.encode()[:-1], "not_utf8"),
    "trailing bytes": (b'{"trainer": "flaml"} x', "trailing_bytes"),
    "two documents": (b'{"trainer": "flaml"}\n{"trainer": "flaml"}', "trailing_bytes"),
    "a NUL at the end": (b'{"trainer": "flaml"}\x00', "trailing_bytes"),
    "duplicate keys": (b'{"trainer": "flaml", "trainer": "sklearn"}', "duplicate_key"),
    "duplicate keys by an escape": (b'{"trainer": "flaml", "tr\\u0061iner": "sklearn"}', "duplicate_key"),
    "duplicate keys far down": (b'{"a": [{"b": {"c": 1, "c": 2}}]}', "duplicate_key"),
    "NaN": (b'{"time_budget_s": NaN}', "not_json"),
    "Infinity": (b'{"time_budget_s": Infinity}', "not_json"),
    "-Infinity": (b'{"time_budget_s": -Infinity}', "not_json"),
    "a float beyond 64 bits": (b'{"time_budget_s": 1e400}', "number_out_of_range"),
    "an integer of 5,000 digits": (b'{"priority": ' + b"9" * 5_000 + b"}", "number_out_of_range"),
    "an integer of 500,000 digits": (b'{"priority": ' + b"9" * 500_000 + b"}", "number_out_of_range"),
    "2 ** 63": (b'{"priority": 9223372036854775808}', "number_out_of_range"),
    "100,000 levels of lists": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    "100,000 levels of objects": (b'{"a":' * 80_000 + b"1" + b"}" * 80_000, "too_deep"),
    "65 levels": (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "too_deep"),
    "40,000 keys": (json.dumps({f"k{i}": 1 for i in range(40_000)}).encode(), "too_many_values"),
    "a million keys": (b'{"k": 1' + b', "k": 1' * 999_999 + b"}", "too_large"),
    "260,000 numbers": (b'{"a": [' + b"0," * 260_000 + b"0]}", "too_many_values"),
    "260,000 lists in lists": (b'{"a": [' + (b"[" * 60 + b"]" * 60 + b",") * 4_300 + b"0]}", "too_many_values"),
    "260,000 levels": (b'{"a": ' + b"[" * 260_000 + b"]" * 260_000 + b"}", "too_deep"),
    "170,000 strings": (b'{"a": [' + b'"",' * 170_000 + b"0]}", "too_many_values"),
    "an endless string of escaped quotes": (b'{"a": [' + b"0," * 10_001 + b'"' + b'\\"' * 240_000, "too_many_values"),
    "6,000 lists of one number": (b'{"a": [' + b"[0]," * 5_999 + b"[0]]}", "too_many_values"),
    "100,000 items": (b'{"a": [' + b"0," * 99_999 + b"0]}", "too_many_values"),
    "50 MB of spaces": (b" " * 50_000_000, "too_large"),
    "50 MB of text": (b'{"a": "' + b"x" * 50_000_000 + b'"}', "too_large"),
    "a compressed bomb": (gzip.compress(b" " * 10_000_000), "not_utf8"),
    "a list": (b'[{"trainer": "flaml"}]', "not_an_object"),
    "a string": (b'"trainer"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "a number": (b"42", "not_an_object"),
    "half a surrogate pair": (b'{"run_name": "\\ud83d"}', "lone_surrogate"),
    "half a surrogate pair in a key": (b'{"\\ud83d": 1}', "lone_surrogate"),
    "a raw newline in a string": (b'{"run_name": "a\nb"}', "not_json"),
    "a comment": (b'{"a": 1} // yes', "trailing_bytes"),
    "YAML": (b"trainer: flaml\n", "not_json"),
    "a form": (b"trainer=flaml&task_type=classification", "not_json"),
}


def _refusal(value: bytes | None) -> Malformed:
    with pytest.raises(Malformed) as refused:
        codec.decode_object(value)
    return refused.value


@pytest.mark.parametrize("kind", BAD_BYTES)
def test_bad_bytes_are_refused_with_a_code_and_a_sentence(kind: str) -> None:
    value, detail = BAD_BYTES[kind]
    error = _refusal(value)
    assert error.detail == detail
    assert 10 < len(str(error)) < 300
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (b'{"a": {"b": [1, {"c": NaN}]}, "d": 1}', "a.b.1.c"),
        (b'{"split": {"test_size": -Infinity}}', "split.test_size"),
        (b'{"a": 1, "priority": 99999999999999999999}', "priority"),
        (b'{"time_budget_s": 1e400}', "time_budget_s"),
        (b'{"tags": ["x", "\\ud800"]}', "tags.1"),
        (b'{"extras": {"\\ud800": 1}}', "?"),
    ],
)
def test_a_value_that_json_cannot_hold_is_named_by_its_path(value: bytes, path: str) -> None:
    assert [error.path for error in _refusal(value).errors] == [path]


@pytest.mark.timed
@pytest.mark.parametrize("kind", BAD_BYTES)
def test_bad_bytes_are_refused_in_under_50_ms(kind: str) -> None:
    value, _ = BAD_BYTES[kind]
    fastest_s = float("inf")
    for _ in range(3):
        before = time.thread_time()  # of this thread alone: other tests may use the machine
        _refusal(value)
        fastest_s = min(fastest_s, time.thread_time() - before)
    in_time(0.05, fastest_s)


@pytest.mark.parametrize("kind", BAD_BYTES)
def test_bad_bytes_are_refused_in_bounded_memory(kind: str) -> None:
    value, _ = BAD_BYTES[kind]
    tracemalloc.start()
    try:
        _refusal(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize(
    "value",
    [
        b'{"a": ' + b"[" * 62 + b"]" * 62 + b"}",
        b'{"priority": 9223372036854775807, "x": -9223372036854775807}',
        b' {"a": "\\ud83d\\ude00"} \r\n',
        json.dumps({f"k{i}": 1 for i in range(9_990)}).encode(),
        b'{"a": "' + b"x" * (codec.MAX_BYTES - 9) + b'"}',
        b'{"a": "' + b',[{\\"' * 80_000 + b'"}',
    ],
    ids=[
        "63 levels",
        "the largest integer",
        "white space around a whole emoji",
        "9,990 keys",
        "512 KiB",
        "a text that looks like JSON",
    ],
)
def test_what_is_just_within_the_limits_is_read(value: bytes) -> None:
    assert codec.decode_object(value) == json.loads(value)


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
            max_leaves=20,
        ),
        max_size=5,
    )
)
def test_every_document_survives_encoding_and_decoding(document: dict[str, object]) -> None:
    try:
        value = codec.encode(document)
    except ValueError:
        return  # infinities and lone surrogates have no place on the wire
    assert codec.decode_object(value) == document
    assert b"\n" not in value
    assert codec.canonical(codec.decode_object(value)) == codec.canonical(document)


def test_what_is_printed_holds_no_control_characters_and_is_short() -> None:
    shown = codec.printable("\x1b[31m\u202egnp.exe\ud800\n" + "x" * 500, 40)
    assert shown.isprintable()
    assert len(shown) == 40
