"""What a ClearML dataset says of its own files (`state.json`, as the SDK writes it), and which one is meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trainyard_trainer_worker.spec import Detail, clean, invalid_dataset, listed

MAX_ENTRIES: Final = 1_000_000
_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file inside an archive: of which dataset (this one or a parent), in which artifact, under which name."""

    path: str
    dataset_id: str
    artifact: str
    sha256: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class LinkedFile:
    """A file that the dataset only points at."""

    path: str
    uri: str


Entry = StoredFile | LinkedFile


def entries_of(state: object, dataset_id: str) -> list[Entry]:
    """All files that a dataset's state lists, its parents' among them. Raises AttemptError(invalid_dataset)."""
    if not isinstance(state, Mapping):
        raise _broken(dataset_id)
    stored, links = state.get("dataset_file_entries") or (), state.get("dataset_link_entries") or ()
    if not isinstance(stored, list | tuple) or not isinstance(links, list | tuple):
        raise _broken(dataset_id)
    if len(stored) + len(links) > MAX_ENTRIES:
        raise invalid_dataset(Detail.TOO_LARGE, f"the ClearML dataset {dataset_id} lists more than {MAX_ENTRIES} files")
    return [_stored(item, dataset_id) for item in stored] + [_linked(item, dataset_id) for item in links]


def _stored(item: Any, dataset_id: str) -> StoredFile:
    try:
        digest, size = item.get("hash"), item.get("size")
        return StoredFile(
            path=_text(item["relative_path"]),
            dataset_id=_text(item.get("parent_dataset_id") or dataset_id),
            artifact=_text(item.get("artifact_name") or "data"),
            sha256=digest if isinstance(digest, str) and _SHA256.match(digest) else None,
            size_bytes=size if isinstance(size, int) and size >= 0 else None,
        )
    except (KeyError, TypeError, AttributeError):
        raise _broken(dataset_id) from None


def _linked(item: Any, dataset_id: str) -> LinkedFile:
    try:
        return LinkedFile(_text(item["relative_path"]), _text(item["link"]))
    except (KeyError, TypeError, AttributeError):
        raise _broken(dataset_id) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _broken(dataset_id: str) -> Exception:
    return invalid_dataset(
        Detail.ARCHIVE_UNSAFE, f"the ClearML dataset {clean(dataset_id)} has a state that is not the SDK's"
    )


def choose(entries: Sequence[Entry], path: str | None, dataset_id: str) -> Entry:
    """The file that `dataset.path` names, else the only CSV. Raises AttemptError that lists the candidates."""
    tables = sorted({entry.path for entry in entries if entry.path.lower().endswith(".csv")})
    if path is not None:
        for entry in entries:
            if entry.path == path.removeprefix("./"):
                return entry
        has = f"its CSV files are: {listed(tables)}" if tables else "it has no CSV file"
        raise invalid_dataset(
            Detail.FILE_MISSING, f"dataset.path {clean(path)} is no file of the ClearML dataset {dataset_id}; {has}"
        )
    if not tables:
        raise invalid_dataset(
            Detail.FILE_MISSING, f"the ClearML dataset {dataset_id} has no .csv file among its {len(entries)} files"
        )
    if len(tables) > 1:
        raise invalid_dataset(
            Detail.DATASET_AMBIGUOUS,
            f"the ClearML dataset {dataset_id} has {len(tables)} CSV files; say with dataset.path which one: "
            f"{listed(tables)}",
        )
    return next(entry for entry in entries if entry.path == tables[0])
