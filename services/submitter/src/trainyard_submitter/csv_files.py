"""The label column of a CSV file, read as the worker does: UTF-8, with a header, by comma, semicolon, tab or pipe."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainyard_schemas.codec import printable
from trainyard_schemas.csv_dialect import DELIMITER_NAMES, MAX_HEADER_CHARS, header_of
from trainyard_submitter.errors import FileUnusable
from trainyard_submitter.inference import LabelColumn, group_columns, label_index

# A text in a field may be as long as the file, as it may be for the worker; the csv module allows 128 KiB.
_FIELD_CHARS = 1 << 30
# First bytes of what is given as CSV and holds it at best.
_DECOMPRESS = "decompress it first, and give the CSV file that is in it"
_MAGIC = {
    b"\x1f\x8b": f"is gzip data; {_DECOMPRESS}",
    b"PK\x03\x04": "is a zip or spreadsheet file; give the CSV file that is in it, or save the sheet as CSV in UTF-8",
    b"\xfd7zXZ": f"is xz data; {_DECOMPRESS}",
    b"\x28\xb5\x2f\xfd": f"is zstd data; {_DECOMPRESS}",
    b"PAR1": "is a Parquet file; save the table as CSV in UTF-8",
    b"\xff\xfe": "is UTF-16; save it as CSV in UTF-8",
    b"\xfe\xff": "is UTF-16; save it as CSV in UTF-8",
}


def read_label(path: Path, label: str, groups: Sequence[str] = ()) -> LabelColumn:
    """Every value of the label column; memory stays small where values repeat.

    Raises FileUnusable where it is no CSV file, InvalidRequest for a column that is not there.
    """
    shown = printable(path, 200)
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
            raise FileUnusable(f"{shown} is no plain file; give a CSV file")
        _refuse_other_kinds(path, shown)
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, delimiter = _header(file.read(MAX_HEADER_CHARS), shown)
            file.seek(0)
            split_at = DELIMITER_NAMES[delimiter]
            index = label_index(header, label, split_at)
            group_columns(header, groups, label, split_at)
            column = LabelColumn(label)
            with _long_fields():
                rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
                next(row for row in rows if row)
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


def _refuse_other_kinds(path: Path, shown: str) -> None:
    with path.open("rb") as file:
        start = file.read(max(map(len, _MAGIC)))
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise FileUnusable(f"{shown} {what}")


@contextmanager
def _long_fields() -> Iterator[None]:
    """The limit is the csv module's, for the whole process."""
    before = csv.field_size_limit(_FIELD_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _header(start: str, shown: str) -> tuple[list[str], str]:
    """The column names, and the likely delimiter that splits them into the most."""
    if "\0" in start:
        raise FileUnusable(f"{shown} holds NUL bytes: it is no CSV text")
    names, delimiter = header_of(start)
    if not names:
        raise FileUnusable(f"{shown} is empty or has no header line; the first line must name the columns")
    return names, delimiter
