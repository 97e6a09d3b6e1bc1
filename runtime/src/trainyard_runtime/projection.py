"""A projection's memory: what was folded, and how far, in one SQLite transaction.

State and offsets can never disagree: after any crash the projection resumes exactly where its state ends.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Position = tuple[str, int]
"""A topic and a partition."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_kind ON entries (kind);
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_BUSY_TIMEOUT_S = 5.0


class ProjectionUnavailable(Exception):
    """The projection's file cannot be read or written: the disk is full, the file is damaged or not ours."""


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Hold a process's own folder, made where it is missing, against a second process; the kernel ends the hold.

    Two processes that write one projection would take each other's offsets back. Raises ProjectionUnavailable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "in-use.lock").open("w")
    except OSError as problem:
        raise ProjectionUnavailable(f"the folder {folder} cannot be made or written to ({problem})") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise ProjectionUnavailable(
                f"another process uses the folder {folder}; give each process a folder of its own"
            ) from problem
        yield folder


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that the projection knows; `kind` groups entries that are loaded together."""

    kind: str
    value: bytes


class Projection:
    """Entries by key, and per partition the next offset to fold.

    `identity` names what was folded and how (cluster, prefix, version of the fold): a file of another identity is
    emptied, so the projection starts over. Reads and writes may come from different threads, one writer at a time.
    """

    def __init__(self, path: Path, *, identity: str) -> None:
        """Open, or create, the file and its folder. Raises ProjectionUnavailable."""
        self._path = path
        self._writing = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._writer.executescript(_SCHEMA)
            self._identify(identity)
            self._reader = self._connect()
        except (OSError, sqlite3.Error) as problem:
            raise self._unavailable(problem) from problem

    def offsets(self) -> dict[Position, int]:
        """Per partition the next offset to fold; a partition that is missing was never folded."""
        rows = self._read("SELECT topic, partition, next_offset FROM offsets")
        return {(topic, partition): offset for topic, partition, offset in rows}

    def get(self, key: str) -> Entry | None:
        """The entry of a key as last written."""
        rows = self._read("SELECT kind, value FROM entries WHERE key = ?", (key,))
        return Entry(rows[0][0], rows[0][1]) if rows else None

    def entries(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """All entries of a kind, by key."""
        yield from self._read("SELECT key, value FROM entries WHERE kind = ? ORDER BY key", (kind,))

    def count(self, kind: str) -> int:
        """How many entries of a kind there are."""
        return int(self._read("SELECT count(*) FROM entries WHERE kind = ?", (kind,))[0][0])

    def write(self, entries: Mapping[str, Entry | None], offsets: Mapping[Position, int]) -> None:
        """Put (or, where None, remove) entries and set offsets, all or nothing, durable on return (one fsync)."""
        puts = [(key, entry.kind, entry.value) for key, entry in entries.items() if entry is not None]
        removals = [(key,) for key, entry in entries.items() if entry is None]
        positions = [(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        with self._writing:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    self._writer.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", puts)
                    self._writer.executemany("DELETE FROM entries WHERE key = ?", removals)
                    self._writer.executemany("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", positions)
                except BaseException:
                    self._writer.execute("ROLLBACK")
                    raise
                self._writer.execute("COMMIT")
            except sqlite3.Error as problem:
                raise self._unavailable(problem) from problem

    def clear(self) -> None:
        """Forget everything: the topic that was folded is not there any more."""
        with self._writing:
            try:
                self._writer.executescript("BEGIN IMMEDIATE; DELETE FROM entries; DELETE FROM offsets; COMMIT;")
            except sqlite3.Error as problem:
                raise self._unavailable(problem) from problem

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _identify(self, identity: str) -> None:
        found = self._writer.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        if found is not None and found[0] == identity:
            return
        self._writer.executescript("BEGIN IMMEDIATE; DELETE FROM entries; DELETE FROM offsets; COMMIT;")
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('identity', ?)", (identity,))

    def _read(self, statement: str, values: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as problem:
            raise self._unavailable(problem) from problem

    def _unavailable(self, problem: Exception) -> ProjectionUnavailable:
        return ProjectionUnavailable(
            f"the projection {self._path.name} cannot be used ({problem}); free disk or move it"
        )
