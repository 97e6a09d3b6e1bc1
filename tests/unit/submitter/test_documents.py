from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from tests.timing import in_time
from trainyard_submitter.cli.documents import FileUnusable, read_request
from trainyard_submitter.errors import InvalidRequest
from trainyard_submitter.submission import prepare


def written(folder: Path, content: bytes, name: str) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


BAD = {
    "empty": (b"", "empty"),
    "blank": (b" \n\t", "empty"),
    "not utf-8": (b'{"a": "\xff"}', "not_utf8"),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', "byte_order_mark"),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "not_utf8"),
    "two documents": (b'{"a": 1}\n{"b": 2}', "trailing_bytes"),
    "duplicate key": (b'{"a": 1, "a": 2}', "duplicate_key"),
    "nan": (b'{"a": NaN}', "not_json"),
    "infinity": (b'{"a": -Infinity}', "not_json"),
    "5,000 digits": (b'{"a": ' + b"9" * 5_000 + b"}", "number_out_of_range"),
    "100,000 levels": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    "truncated": (b'{"a": {"b": 1}', "not_json"),
    "a list": (b"[1, 2]", "not_an_object"),
    "too large": (b'{"a": "' + b"x" * 600_000 + b'"}', "too_large"),
}


@pytest.mark.parametrize(("content", "detail"), BAD.values(), ids=BAD.keys())
def test_bad_json_is_refused_in_one_sentence_that_names_the_file(tmp_path: Path, content: bytes, detail: str) -> None:
    name = written(tmp_path, content, "request.json")
    with pytest.raises(InvalidRequest) as caught:
        read_request(name)
    assert caught.value.detail == detail
    assert "request.json" in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_YAML = {
    "two documents": (b"a: 1\n---\nb: 2\n", "trailing_bytes"),
    "duplicate key": (b"a: 1\na: 2\n", "duplicate_key"),
    "beyond a float": (b"a: 1e999\n", "number_out_of_range"),
    "duplicate key below": (b"a:\n  b: 1\n  b: 2\n", "duplicate_key"),
    "python tag": (b"a: !!python/object/apply:os.system [ls]\n", "tag"),
    "own tag": (b"a: !env HOME\n", "tag"),
    "anchors": (b"a: &x [1]\nb: *x\n", "anchor"),
    "a number as key": (b"1: a\n", "not_json"),
    "a list as key": (b"? [a]\n: 1\n", "not_json"),
    "syntax": (b"a: [1, 2\n", "not_yaml"),
    "tab": (b"a:\n\t- 1\n", "not_yaml"),
    "a list": (b"- a\n", "not_an_object"),
    "a word": (b"hello\n", "not_an_object"),
    "deep": (b"a: " + b"[" * 5_000 + b"]" * 5_000, "too_deep"),
    "large": (b"a: " + b"x" * 70_000, "too_large"),
    "byte order mark": (b"\xef\xbb\xbfa: 1\n", "byte_order_mark"),
    "not utf-8": (b"a: \xff\n", "not_utf8"),
    "empty": (b"\n", "empty"),
    "only a comment": (b"# nothing\n", "not_an_object"),
}


@pytest.mark.parametrize(("content", "detail"), BAD_YAML.values(), ids=BAD_YAML.keys())
def test_bad_yaml_is_refused_as_strictly_as_json(tmp_path: Path, content: bytes, detail: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(written(tmp_path, content, "request.yaml"))
    assert caught.value.detail == detail
    assert "\n" not in str(caught.value)


def test_yaml_says_what_json_would(tmp_path: Path) -> None:
    text = b"""
# a comment
trainer: sklearn
retry: {on: [worker_lost], max_attempts: 2}
run_name: 2026-01-31
time: 12:30:15
answer: yes
octal: 0123
tags:
  - "1"
  - off
empty:
none: null
whole: -7
real: 2.5e-3
flag: true
"""
    assert read_request(written(tmp_path, text, "request.yml")) == {
        "trainer": "sklearn",
        "retry": {"on": ["worker_lost"], "max_attempts": 2},
        "run_name": "2026-01-31",
        "time": "12:30:15",
        "answer": "yes",
        "octal": "0123",
        "tags": ["1", "off"],
        "empty": None,
        "none": None,
        "whole": -7,
        "real": 0.0025,
        "flag": True,
    }


def test_standard_input_is_json_when_it_begins_with_a_brace_and_yaml_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (b' {"trainer": "flaml"}', b"trainer: flaml\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert read_request("-") == {"trainer": "flaml"}


def test_a_closed_standard_input_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(FileUnusable, match="standard input is closed"):
        read_request("-")


@pytest.mark.timed
def test_a_file_without_end_is_refused_quickly() -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidRequest) as caught:
        read_request("/dev/zero")
    assert caught.value.detail == "too_large"
    in_time(2, time.monotonic() - begun)


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path: Path) -> None:
    for name, words in ((tmp_path / "none.json", "there is no file"), (tmp_path, "is a folder")):
        with pytest.raises(FileUnusable, match=words) as caught:
            read_request(str(name))
        assert caught.value.exit_code == 2


def test_a_refusal_repeats_no_secret(tmp_path: Path) -> None:
    name = "https://bob:secret-canary@host/"
    with pytest.raises(InvalidRequest) as twice:
        read_request(written(tmp_path, f'{{"{name}": 1, "{name}": 2}}'.encode(), "request.json"))
    with pytest.raises(InvalidRequest) as unknown:
        prepare({"schema_version": 2, name: 1}, idempotency_key=None, event_id="e", tenant="t", now=0.0)
    for error in (twice.value, unknown.value):
        assert "https://***@host/" in str(error)
        assert "secret-canary" not in f"{error} {error.errors}"
