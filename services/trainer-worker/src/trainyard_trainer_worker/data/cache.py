"""Fetched data on this disk, named by the SHA-256 of its bytes, shared by the slots and workers of one host.

    blobs/<sha256>          whole files, never changed in place
    known/<sha256 of key>   JSON: which content an address had, and the validator that says so
    incoming/<random>       files being written, each locked by its writer for as long as it lives
    lock                    held alone while something is thrown away, together while files are begun

A blob appears by a rename and is handed out as a link (or a copy), so throwing it away takes it from nobody. Its bytes
are checked each time it is handed out. A writer that died leaves a file that nobody locks; cleaning removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, Detail, invalid_dataset

READ_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """What a file's bytes are."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """What an address held when it was last read."""

    sha256: str
    validator: str


class Incoming:
    """A file being written. `add` its bytes, then `keep` it; else it is gone when its block ends."""

    def __init__(self, cache: DataCache, path: Path, file: IO[bytes], max_bytes: int, what: str) -> None:
        self._cache = cache
        self._file = file
        self._max_bytes = max_bytes
        self._what = what
        self._hash = hashlib.sha256()
        self.path = path
        self.size_bytes = 0

    async def add(self, chunk: bytes) -> None:
        """Append. Raises AttemptError: too large, or the disk is full."""
        self.size_bytes += len(chunk)
        if self.size_bytes > self._max_bytes:
            raise too_large(self._what, self._max_bytes)
        await asyncio.to_thread(self._write, chunk)

    def _write(self, chunk: bytes) -> None:
        with _disk():
            self._file.write(chunk)
        self._hash.update(chunk)

    @property
    def content(self) -> Content:
        """What was written so far."""
        return Content(self._hash.hexdigest(), self.size_bytes)

    async def keep(self, target: Path, *, cached: bool = True) -> Content:
        """Put the file at `target` (which must not exist) and, where `cached`, into the cache."""
        await asyncio.to_thread(self._keep, target, cached)
        return self.content

    def _keep(self, target: Path, cached: bool) -> None:
        with _disk():
            self._file.flush()
            if cached:
                os.fsync(self._file.fileno())
            os.fchmod(self._file.fileno(), 0o400)
            _link(self.path, target)
            if cached:
                self.path.replace(self._cache.blob(self.content.sha256))
        if cached:
            self._cache.clean()


class DataCache:
    """The cache in `folder`, made if need be. Raises OSError where it cannot be."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._blobs, self._known, self._incoming = folder / "blobs", folder / "known", folder / "incoming"
        self._lock = folder / "lock"
        for made in (self._blobs, self._known, self._incoming):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.clean()

    def blob(self, sha256: str) -> Path:
        """Where the content with this hash is, if it is."""
        return self._blobs / sha256

    async def get(self, sha256: str, target: Path) -> Content | None:
        """Put the content at `target` (which must not exist); None if it is not here. Checks every byte.

        Content that changed on disk is thrown away and counts as not here.
        """
        if not await asyncio.to_thread(self._take, sha256, target):
            return None
        found = await content_of(target)
        if found.sha256 == sha256:
            return found
        await asyncio.to_thread(_remove, target, self.blob(sha256))
        return None

    def _take(self, sha256: str, target: Path) -> bool:
        try:
            with _disk():
                _link(self.blob(sha256), target)
                os.utime(self.blob(sha256))
        except FileNotFoundError:
            return target.exists()  # thrown away after it was linked
        return True

    @contextmanager
    def incoming(self, max_bytes: int, what: str) -> Iterator[Incoming]:
        """A new file of at most `max_bytes`; `what` names it where it turns out larger."""
        file, path = self._new()
        with file:
            try:
                yield Incoming(self, path, file, max_bytes, what)
            finally:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # closing flushes once more, on a disk that may be full
                    file.flush()

    def known(self, key: str) -> Known | None:
        """What an address held when it was last read; None where that is not known."""
        try:
            read = json.loads(self._known_path(key).read_bytes())
            return Known(str(read["sha256"]), str(read["validator"])) if read["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, key: str, known: Known) -> None:
        """Note what an address holds now."""
        text = json.dumps({"key": key, "sha256": known.sha256, "validator": known.validator})
        file, path = self._new()
        with _disk(), file:
            file.write(text.encode())
            file.flush()
            path.replace(self._known_path(key))

    def _known_path(self, key: str) -> Path:
        return self._known / hashlib.sha256(key.encode()).hexdigest()

    def _new(self) -> tuple[IO[bytes], Path]:
        """A file of our own, locked before any cleaning can see it."""
        with _disk(), self._lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            fd, name = tempfile.mkstemp(dir=self._incoming)
            fcntl.flock(fd, fcntl.LOCK_EX)
        return os.fdopen(fd, "w+b"), Path(name)

    def clean(self) -> None:
        """Throw away what exceeds the bound, longest unused first, and what dead writers left. One at a time."""
        with self._lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for path in self._incoming.iterdir():
                _remove_if_dead(path)
            left = self._max_bytes
            for used_ns, size, path in sorted(_blobs_of(self._blobs), reverse=True):
                del used_ns
                left -= size
                if left < 0:
                    path.unlink(missing_ok=True)
            for path in self._known.iterdir():
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    if not self.blob(str(json.loads(path.read_bytes())["sha256"])).exists():
                        path.unlink()


def too_large(what: str, max_bytes: int) -> AttemptError:
    """The refusal of a file that is larger than this worker takes."""
    return invalid_dataset(
        Detail.TOO_LARGE,
        f"{what} has more than {max_bytes} bytes, the most that this worker takes (TRAINYARD_DATA_MAX_FILE_BYTES)",
    )


async def content_of(path: Path) -> Content:
    """Hash and size of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, READ_BYTES):
            await asyncio.to_thread(digest.update, chunk)
            size += len(chunk)
    return Content(digest.hexdigest(), size)


def _link(source: Path, target: Path) -> None:
    """A hard link; across file systems (or where links are not allowed) a copy that appears whole."""
    try:
        os.link(source, target)
        return
    except OSError as problem:
        if problem.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
    partial = target.with_name(target.name + ".partial")
    with source.open("rb") as read, partial.open("wb") as write:
        while chunk := read.read(READ_BYTES):
            write.write(chunk)
    partial.replace(target)


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _remove_if_dead(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)


def _blobs_of(folder: Path) -> Iterator[tuple[int, int, Path]]:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            status = path.stat()
            yield status.st_mtime_ns, status.st_size, path


@contextmanager
def _disk() -> Iterator[None]:
    """A full disk is no fault of the data and has a name of its own."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise AttemptError(
            Reason.INTERNAL,
            Detail.DISK_FULL,
            "the worker's disk is full; free space or bound the cache (TRAINYARD_DATA_CACHE_MAX_BYTES)",
        ) from problem
