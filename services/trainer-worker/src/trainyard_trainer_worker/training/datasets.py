"""CSV data on this disk: from a request's `dataset`, or the file fetched for it, to a table, safely.

A path is resolved under the allowed roots, opened once, and judged by what was opened (not by what its name was a
moment before). The bytes that are hashed are the bytes that are parsed. Each thing that can be wrong with a dataset
has its own detail code and a sentence that says what there is.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import stat
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from trainyard_schemas.csv_dialect import MAX_HEADER_CHARS, header_of
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import (
    AttemptError,
    Detail,
    FetchedData,
    clean,
    invalid_dataset,
    invalid_request,
    listed,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_BYTES = 1 << 30
MAX_COLUMNS = 10_000
MAX_CANDIDATES = 10_000
DECODE_BYTES = 16 << 20

# First bytes of what people rename to .csv: pickle protocols 2 to 5, zip and xlsx, gzip, Parquet, HDF5, 7z, xz, zstd.
_MAGIC = {
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"PK\x03\x04": "a zip or spreadsheet file",
    b"\x1f\x8b": "gzip data",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
}


@dataclass(frozen=True, slots=True)
class RawData:
    """The bytes of one CSV file. `location` is its path below the allowed root or where it was fetched from, fit for
    logs; `dataset_id` is the ClearML dataset's."""

    content: bytes
    sha256: str
    location: str
    dataset_id: str | None = None


def read_fetched(data: FetchedData, max_bytes: int = MAX_BYTES) -> RawData:
    """Read the file that the parent fetched; its bytes must be the ones that it fetched. Raises AttemptError."""
    path = Path(os.path.realpath(data.path))
    content = _read_once(path, path.parent, max_bytes)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != data.sha256:
        raise invalid_dataset(
            Detail.CONTENT_DIFFERS, f"the file fetched from {clean(data.location, 200)} changed on this worker's disk"
        )
    return RawData(content, sha256, data.location, data.dataset_id)


def read_raw(dataset: Mapping[str, Any], data_roots: Sequence[str], max_bytes: int = MAX_BYTES) -> RawData:
    """Find and read the CSV that `dataset` means.

    Raises AttemptError: dataset_unreachable for what is not local, invalid_dataset otherwise.
    """
    uri = dataset.get("uri")
    if not isinstance(uri, str) or not uri:
        raise AttemptError(
            Reason.DATASET_UNREACHABLE,
            Detail.REMOTE_NOT_FETCHED,
            "dataset names no uri that a training process reads: the worker fetches ClearML datasets; dataset_ref is "
            "for pipelines",
        )
    path, root = resolve(uri, data_roots)
    if path.is_dir():
        path = _inside(path, dataset.get("path"), root)
    content = _read_once(path, root, max_bytes)
    return RawData(content, hashlib.sha256(content).hexdigest(), path.relative_to(root).as_posix())


def resolve(uri: str, data_roots: Sequence[str]) -> tuple[Path, Path]:
    """The real path that `uri` means, and the allowed root that holds it.

    A relative path is tried against each root and then against each root's parent (so that `examples/wine.csv`
    and `wine.csv` both work where `examples` is a root). Links are followed first, then the result must lie under
    a root. Raises AttemptError.
    """
    local = _local_path(uri)
    roots = [Path(os.path.realpath(root)) for root in data_roots]
    candidates = [local] if local.is_absolute() else [base / local for r in roots for base in (r, r.parent)]
    allowed: list[tuple[Path, Path]] = []
    for candidate in candidates:
        real = Path(os.path.realpath(candidate))
        allowed.extend((real, root) for root in roots if real.is_relative_to(root))
    if not allowed:
        raise invalid_dataset(
            Detail.PATH_NOT_ALLOWED,
            f"dataset.uri {clean(uri)} lies outside the folders that this worker may read data from; "
            "put the file under one of them (TRAINYARD_DATA_ROOTS)",
        )
    for real, root in allowed:
        if _exists(real):
            return real, root
    raise invalid_dataset(
        Detail.FILE_MISSING, f"dataset.uri {clean(uri)} does not exist on this worker; check the name and the folder"
    )


def _exists(path: Path) -> bool:
    """False too for a name that is longer than the file system takes."""
    try:
        return path.exists()
    except OSError:
        return False


def _local_path(uri: str) -> Path:
    if "\x00" in uri:
        raise invalid_request(Detail.FIELD_INVALID, "dataset.uri holds a NUL character")
    if "://" not in uri and not uri.startswith("file:"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise AttemptError(
            Reason.DATASET_UNREACHABLE,
            Detail.REMOTE_NOT_FETCHED,
            f"dataset.uri is a {clean(parts.scheme, 20)} address, which a training process does not fetch: the worker "
            "fetches http://, https:// and s3:// data",
        )
    if parts.netloc not in ("", "localhost"):
        raise invalid_dataset(
            Detail.PATH_NOT_ALLOWED, f"dataset.uri names the host {clean(parts.netloc)}; use file:///path on this host"
        )
    path = unquote(parts.path)
    if "\x00" in path:
        raise invalid_request(Detail.FIELD_INVALID, "dataset.uri holds a NUL character")
    return Path(path)


def _inside(folder: Path, name: object, root: Path) -> Path:
    """The CSV in `folder` that `dataset.path` names, or the only one there."""
    if isinstance(name, str) and name:
        real = Path(os.path.realpath(folder / name))
        if not real.is_relative_to(folder):
            raise invalid_dataset(Detail.PATH_NOT_ALLOWED, f"dataset.path {clean(name)} leaves the dataset's folder")
        if not _exists(real) or not real.is_file():
            raise invalid_dataset(Detail.FILE_MISSING, f"dataset.path {clean(name)} is no file in the dataset's folder")
        return real
    found: list[str] = []
    for seen, entry in enumerate(folder.rglob("*.csv")):
        if seen >= MAX_CANDIDATES:
            break
        if entry.is_file() and not entry.is_symlink():
            found.append(entry.relative_to(folder).as_posix())
    found.sort()
    if not found:
        raise invalid_dataset(Detail.FILE_MISSING, "dataset.uri is a folder without any .csv file")
    if len(found) > 1:
        raise invalid_dataset(
            Detail.DATASET_AMBIGUOUS,
            f"dataset.uri is a folder with {len(found)} CSV files; say with dataset.path which one: {listed(found)}",
        )
    return folder / found[0]


def _read_once(path: Path, root: Path, max_bytes: int) -> bytes:
    """Open, check what was opened, read. A path swapped after `resolve` is caught here, on the open descriptor."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise invalid_dataset(
            Detail.FILE_MISSING, f"dataset file {clean(path.name)} cannot be opened: {error.strerror}"
        ) from error
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        opened = Path(os.path.realpath(f"/proc/self/fd/{fd}")) if Path("/proc/self/fd").is_dir() else path
        if not opened.is_relative_to(root):
            raise invalid_dataset(Detail.PATH_NOT_ALLOWED, "dataset.uri left its folder while it was opened")
        if not stat.S_ISREG(info.st_mode):
            raise invalid_dataset(Detail.NOT_CSV, f"dataset file {clean(path.name)} is not a regular file")
        if info.st_size > max_bytes:
            raise invalid_dataset(
                Detail.TOO_LARGE, f"dataset file has {info.st_size} bytes; this worker reads at most {max_bytes}"
            )
        content = file.read(info.st_size + 1)  # the memory is taken before it is read
        if len(content) > info.st_size:
            content += file.read(max_bytes + 1 - len(content))
    if len(content) > max_bytes:
        raise invalid_dataset(Detail.TOO_LARGE, f"dataset file grew beyond {max_bytes} bytes while it was read")
    return content


def parse_csv(content: bytes, max_columns: int = MAX_COLUMNS, texts: Collection[str] = ()) -> pd.DataFrame:
    """The table in `content`: UTF-8 with or without BOM, split by comma, semicolon, tab or pipe, with a header line.

    Column names are unique; they and all texts are without white space around them. The columns in `texts` are read as
    they are written (`007`, `true`), whatever else stands in them. A blank line is no row, but where there is one
    column only it is a row without a value.
    Raises AttemptError(invalid_dataset).
    """
    import pandas as pd

    _check_bytes(content)
    header, delimiter = _header(content)
    if len(header) > max_columns:
        raise invalid_dataset(
            Detail.TOO_MANY_COLUMNS, f"the header has {len(header)} columns; at most {max_columns} are taken"
        )
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise invalid_dataset(
            Detail.DUPLICATE_COLUMNS, f"column names must be unique; these appear more than once: {listed(repeated)}"
        )
    if len(header) == 1:
        content = content.strip(b"\r\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                io.BytesIO(content),
                sep=delimiter,
                encoding="utf-8-sig",
                low_memory=False,
                index_col=False,
                names=header,
                header=0,
                skipinitialspace=True,
                skip_blank_lines=len(header) > 1,
                dtype=dict.fromkeys(set(texts) & set(header), str),
            )
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        if "out of memory" in str(error):  # how the C parser says MemoryError
            raise MemoryError from error
        raise invalid_dataset(Detail.NOT_CSV, f"the file cannot be read as CSV: {clean(error, 200)}") from error
    if frame.empty:
        raise invalid_dataset(
            Detail.NO_ROWS, f"the file has a header ({listed(header)}) and no rows; add the data below it"
        )
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = _stripped(frame[name])
    return frame


def _stripped(values: pd.Series[Any]) -> pd.Series[Any]:
    """What one sees no difference in is the same; what is blank is missing."""
    return values.map(lambda value: (value.strip() or None) if isinstance(value, str) else value)


def _check_bytes(content: bytes) -> None:
    if not content.strip():
        raise invalid_dataset(Detail.EMPTY_FILE, f"the file is empty ({len(content)} bytes)")
    for magic, what in _MAGIC.items():
        if content.startswith(magic):
            raise invalid_dataset(Detail.NOT_CSV, f"the file is {what}, not CSV text; it was not opened further")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise invalid_dataset(Detail.NOT_UTF8, "the file is UTF-16; save it as UTF-8")
    if b"\x00" in content:
        at = content.index(b"\x00")
        raise invalid_dataset(Detail.NOT_CSV, f"the file holds a NUL byte at offset {at}; it is not CSV text")
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(content), DECODE_BYTES):
        chunk = content[start : start + DECODE_BYTES]
        try:
            decoder.decode(chunk, final=start + DECODE_BYTES >= len(content))
        except UnicodeDecodeError as error:
            raise invalid_dataset(
                Detail.NOT_UTF8, f"the file is not UTF-8 (near byte {start + error.start}); save it as UTF-8"
            ) from error


def _header(content: bytes) -> tuple[list[str], str]:
    """The names in the first record, each with one, and the delimiter."""
    start = content[: MAX_HEADER_CHARS * 4].decode("utf-8-sig", errors="ignore")[:MAX_HEADER_CHARS]
    names, delimiter = header_of(start)
    if not names:
        raise invalid_dataset(Detail.NOT_CSV, "the first line cannot be read as a CSV header")
    return [name or f"column_{index}" for index, name in enumerate(names)], delimiter
