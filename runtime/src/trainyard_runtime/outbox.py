"""A durable local outbox: records that must reach Kafka, kept on disk until they are acknowledged.

Guarantees: once `put` has returned, the record survives a crash of the process and of the host (SQLite, write-ahead
log, `synchronous=FULL`: one fsync per put); `pending` gives what was not confirmed, oldest first, also after a
restart. A record may be sent twice (a crash between its acknowledgement and `done`): only put what is harmless twice.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    key BLOB,
    value BLOB NOT NULL,
    headers TEXT NOT NULL
) STRICT
"""
BUSY_TIMEOUT_MS = 2_000


class OutboxUnavailable(Exception):
    """The outbox's file cannot be read or written: the disk is full, the file is damaged or not ours."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that waits. `topic` is the topic's name as it was put."""

    seq: int
    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Outbox:
    """One file of waiting records. Calls block for one fsync (about a millisecond); not for several threads."""

    def __init__(self, path: Path) -> None:
        """Open, or create, the file and its folder. Raises OutboxUnavailable."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as problem:
            raise self._unavailable(problem) from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(
        self,
        topic: str,
        *,
        partition: int,
        key: bytes | None,
        value: bytes,
        headers: list[tuple[str, bytes]] | tuple[tuple[str, bytes], ...] = (),
    ) -> int:
        """Keep a record; returns its number, for `done`. Durable when it returns. Raises OutboxUnavailable."""
        packed = json.dumps([[name, content.hex()] for name, content in headers])
        try:
            row = self._db.execute(
                "INSERT INTO outbox (topic, partition, key, value, headers) VALUES (?, ?, ?, ?, ?)",
                (topic, partition, key, value, packed),
            )
        except sqlite3.Error as problem:
            raise self._unavailable(problem) from problem
        return int(row.lastrowid or 0)

    def done(self, seq: int) -> None:
        """Forget a record, because its acknowledgement has come. Raises OutboxUnavailable."""
        try:
            self._db.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
        except sqlite3.Error as problem:
            raise self._unavailable(problem) from problem

    def pending(self) -> list[Entry]:
        """All that waits, oldest first. Raises OutboxUnavailable."""
        try:
            rows = self._db.execute(
                "SELECT seq, topic, partition, key, value, headers FROM outbox ORDER BY seq"
            ).fetchall()
        except sqlite3.Error as problem:
            raise self._unavailable(problem) from problem
        return [
            Entry(
                seq,
                topic,
                partition,
                key,
                value,
                tuple((name, bytes.fromhex(content)) for name, content in json.loads(headers)),
            )
            for seq, topic, partition, key, value, headers in rows
        ]

    def __len__(self) -> int:
        try:
            return int(self._db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
        except sqlite3.Error as problem:
            raise self._unavailable(problem) from problem

    def close(self) -> None:
        """Release the file; what waits stays in it."""
        self._db.close()

    def _unavailable(self, problem: Exception) -> OutboxUnavailable:
        return OutboxUnavailable(
            f"the outbox {self._path} cannot be used ({problem}); free its disk or point TRAINYARD_STATE_DIR elsewhere"
        )
