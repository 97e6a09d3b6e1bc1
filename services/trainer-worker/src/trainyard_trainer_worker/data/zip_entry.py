"""One file out of a zip archive, without unpacking the rest: no name of the archive ever becomes a path.

What the archive says is not believed: the directory's size is bounded before it is read, links and encrypted entries
are refused, and the bytes are counted while they are unpacked.
"""

from __future__ import annotations

import asyncio
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Final

from trainyard_trainer_worker.spec import AttemptError, Detail, clean, invalid_dataset

CHUNK_BYTES: Final = 1 << 20
MAX_DIRECTORY_BYTES: Final = 32 << 20
"""About 400,000 entries of the SDK's archives; reading them takes some 300 MB of memory."""

_END: Final = b"PK\x05\x06"
_END_SIZE, _LONGEST_COMMENT = 22, 65_535
_END64_LOCATOR: Final = b"PK\x06\x07"
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


async def read_entry(archive: Path, name: str, what: str) -> AsyncIterator[bytes]:
    """The bytes of the file `name` in `archive`. `what` names the archive in messages. Raises AttemptError."""
    opened = await asyncio.to_thread(_open, archive, name, what)
    try:
        with opened[0], opened[1] as entry:
            while chunk := await asyncio.to_thread(entry.read, CHUNK_BYTES):
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, OSError, NotImplementedError) as problem:
        raise _unsafe(what, f"{clean(name)} in it cannot be unpacked ({type(problem).__name__})") from problem


def _open(archive: Path, name: str, what: str) -> tuple[zipfile.ZipFile, IO[bytes]]:
    with archive.open("rb") as file:
        size = directory_bytes(file)
    if size is None:
        raise _unsafe(what, "it is no zip archive")
    if size > MAX_DIRECTORY_BYTES:
        raise _unsafe(what, f"its directory has {size} bytes, at most {MAX_DIRECTORY_BYTES} are read")
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError) as problem:
        raise _unsafe(what, "its directory is broken") from problem
    try:
        entries = [entry for entry in opened.infolist() if entry.filename == name]
        if not entries:
            raise _unsafe(what, f"{clean(name)} is not in it")
        if len(entries) > 1:
            raise _unsafe(what, f"{clean(name)} is in it {len(entries)} times")
        (entry,) = entries
        if stat.S_ISLNK(entry.external_attr >> 16) or entry.is_dir():
            raise _unsafe(what, f"{clean(name)} in it is a link or a folder")
        if entry.flag_bits & 0x1 or entry.compress_type not in _METHODS:
            raise _unsafe(what, f"{clean(name)} in it is encrypted or packed by an unusual method")
        return opened, opened.open(entry)
    except AttemptError:
        opened.close()
        raise
    except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError, RuntimeError) as problem:
        opened.close()
        raise _unsafe(what, f"{clean(name)} in it cannot be opened") from problem


def directory_bytes(file: IO[bytes]) -> int | None:
    """How large the archive says its directory is, from its last record; None where there is none."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - _END_SIZE - _LONGEST_COMMENT - 20)
    file.seek(start)
    tail = file.read(end - start)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        return None
    size: int = struct.unpack_from("<L", tail, at + 12)[0]
    if size == 0xFFFFFFFF and at >= 20 and tail[at - 20 : at - 16] == _END64_LOCATOR:
        file.seek(struct.unpack_from("<Q", tail, at - 12)[0])
        record = file.read(56)
        return int(struct.unpack_from("<Q", record, 40)[0]) if len(record) == 56 else None
    return size


def _unsafe(what: str, why: str) -> AttemptError:
    return invalid_dataset(Detail.ARCHIVE_UNSAFE, f"{what}: {why}; upload the dataset again")
