"""How a CSV file on this disk is read: what splits it, and what is refused with what to do."""

from __future__ import annotations

import csv
import gzip
import lzma
from pathlib import Path

import pytest

from trainyard_submitter.csv_files import read_label
from trainyard_submitter.errors import FileUnusable, InvalidRequest

TEXT = "Smith, Bob; and | more"


def columns_of(path: Path, content: str | bytes) -> str:
    """What is said of the columns of a file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidRequest) as refused:
        read_label(path, "?")
    return str(refused.value).removeprefix("--label: there is no column '?'. ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("income, USD\tage, years\ty\n1,5\t2\t3\n4\t5,0,0\t6\n", "split at tabs, are 'income, USD', 'age, years', 'y'"),
        ("a, b;c, d, e;y\n1,5;2;3\n4;5;6\n", "split at semicolons, are 'a, b', 'c, d, e', 'y'"),
        ("a;b\n1,5;2,5\n", "split at semicolons, are 'a', 'b'"),
        ("a;b,c;d,e\n1,2,3\n4,5,6\n", "split at commas, are 'a;b', 'c;d', 'e'"),
        (f'a,b\n"{TEXT}",1\n"x, ""y"", z", "\n,,"\n', "split at commas, are 'a', 'b'"),
        (f'"{TEXT}",b\n1,2\n', f"split at commas, are '{TEXT}', 'b'"),
        ('size;note\n5" pipe;a\n6" pipe, long;b\n', "split at semicolons, are 'size', 'note'"),
        ("a,b,c\n1,2\n3\n", "split at commas, are 'a', 'b', 'c'"),
        ("\n\na\tb\r\n\r\n1\t2\r\n", "split at tabs, are 'a', 'b'"),
        ("a;b\r1;2\r", "split at semicolons, are 'a', 'b'"),
        ("a|b|c\n1|2|3,5\n", "split at pipes, are 'a', 'b', 'c'"),
        ("a|b,c\n1|2,3\n", "split at commas, are 'a|b', 'c'"),
        ("a|b|c;d\n1|2;3\n", "split at semicolons, are 'a|b|c', 'd'"),
        (f"a, b;c\n{'1;2' * 1}\n" + "x;y\n" * 30 + "x;y;z,,\n", "split at semicolons, are 'a, b', 'c'"),
    ],
)
def test_what_stands_equally_often_in_every_line_splits_the_file(tmp_path: Path, content: str, said: str) -> None:
    assert columns_of(tmp_path / "a.csv", content) == f"The columns, {said}"


@pytest.mark.parametrize(
    "content", ["y\n1\n2\n", "y\n1,5\n2,5\n", "y\na|b\n", "a|y\n1\n", "a|y\n", '"y"\n"a, b"\n', "y"]
)
def test_one_column_stays_one_column(tmp_path: Path, content: str) -> None:
    assert columns_of(tmp_path / "a.csv", content).startswith("The only column is '")


def test_a_group_that_is_not_there_is_answered_with_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user;y\n1;2\n")
    with pytest.raises(
        InvalidRequest, match=r"no column 'users'\. Did you mean 'user'\? The columns, split at semicolons, are"
    ):
        read_label(tmp_path / "a.csv", "y", ["users"])


def test_a_text_longer_than_the_csv_module_allows_is_read(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f'note,y\n{"n" * 200_000},a\n"{"n," * 100_000}",b\n')
    column = read_label(tmp_path / "a.csv", "y")
    assert column.counts == {"a": 1, "b": 1}
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"a,y\n1,2\n"), "is gzip data; decompress it first, and give the CSV file that is in it"),
        (lzma.compress(b"a,y\n1,2\n"), "is xz data; decompress it first"),
        (b"PK\x03\x04" + bytes(30), "is a zip or spreadsheet file; give the CSV file that is in it, or save"),
        ("a,y\n1,2\n".encode("utf-16"), "is UTF-16; save it as CSV in UTF-8"),
        ("a,y\nä,2\n".encode("latin-1"), "is not UTF-8 (near byte 4); save it as CSV in UTF-8"),
    ],
    ids=["gzip", "xz", "zip", "utf-16", "latin-1"],
)
def test_what_is_no_csv_text_is_refused_with_what_to_do(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(FileUnusable) as refused:
        read_label(tmp_path / "a.csv.gz", "y")
    assert f"a.csv.gz {said}" in str(refused.value)
