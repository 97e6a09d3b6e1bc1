"""The label column of a CSV file, read as the worker will read it: UTF-8, by comma, semicolon or tab, with a header."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from trainyard_schemas.codec import printable
from trainyard_submitter.errors import FileUnusable
from trainyard_submitter.inference import LabelColumn, group_columns, label_index

DELIMITERS = (",", ";", "\t")
_HEADER_CHARS = 1 << 20


def read_label(path: Path, label: str, groups: Sequence[str] = ()) -> LabelColumn:
    """Every value of the label column; memory stays small where values repeat.

    Raises FileUnusable where it is no CSV file, InvalidRequest for a column that is not there.
    """
    shown = printable(path, 200)
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
            raise FileUnusable(f"{shown} is no plain file; give a CSV file")
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, delimiter = _header(file.read(_HEADER_CHARS), shown)
            file.seek(0)
            index = label_index(header, label)
            group_columns(header, groups, label)
            rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            next(row for row in rows if row)
            column = LabelColumn(label)
            column.add(row[index] if index < len(row) else "" for row in rows if row)
            return column
    except FileNotFoundError:
        raise FileUnusable(f"there is no file {shown}") from None
    except OSError as error:
        raise FileUnusable(f"{shown} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileUnusable(f"{shown} is not UTF-8 (near byte {error.start}); save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise FileUnusable(f"{shown} cannot be read as CSV: {printable(error, 120)}") from error


def sha256_of(path: Path) -> str:
    """The file's SHA-256, hexadecimal. Raises FileUnusable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileUnusable(f"{printable(path, 200)} cannot be read: {error.strerror or error}") from error


def _header(start: str, shown: str) -> tuple[list[str], str]:
    """The column names, and the delimiter that splits them into the most."""
    if "\0" in start:
        raise FileUnusable(f"{shown} holds NUL bytes: it is no CSV text")
    best: tuple[list[str], str] = ([], DELIMITERS[0])
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter, skipinitialspace=True)
        try:
            record = next((row for row in rows if row), [])
        except csv.Error:  # a field beyond the parser's limit: not split by this delimiter
            continue
        if len(record) > len(best[0]):
            best = ([name.strip() for name in record], delimiter)
    if not best[0]:
        raise FileUnusable(f"{shown} is empty or has no header line; the first line must name the columns")
    return best
