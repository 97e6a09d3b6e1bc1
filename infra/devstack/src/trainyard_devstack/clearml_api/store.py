"""Documents, queue entries and events in one SQLite file.

A document is a JSON object with an `id`, kept under a kind (`task`, `queue`, `model`, `project`, `worker`); some of its
fields are indexed so that a filter need not read them all. WAL with `synchronous=NORMAL`: a killed process loses
nothing, a power cut may lose the last moments; that is enough for a development server.
"""

from __future__ import annotations

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS docs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL, doc TEXT NOT NULL, UNIQUE (kind, id)
);
CREATE TABLE IF NOT EXISTS keys (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_by_value ON keys (kind, key, value);
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, task TEXT NOT NULL, added TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_queue ON entries (queue, seq);
CREATE INDEX IF NOT EXISTS entries_by_task ON entries (task);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL, type TEXT NOT NULL, doc TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_task ON events (task, type, seq);
"""

INDEXED: Final = {
    "task": ("status", "project", "parent", "name"),
    "queue": ("name",),
    "model": ("project", "task", "uri", "name"),
    "project": ("name",),
    "worker": (),
}

INDEXED_CHARACTERS: Final = 200
"""A longer value is indexed by its beginning; filters compare whole values afterwards."""


class Store:
    """One connection, used by one thread; the caller opens a transaction per call."""

    def __init__(self, path: Path) -> None:
        self.scrolls: OrderedDict[str, list[str]] = OrderedDict()
        """What is left of each scroll: ids by the scroll's id, oldest first. In memory only."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-4000")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what happens inside."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def get(self, kind: str, doc_id: str) -> dict[str, Any] | None:
        """A document, or None."""
        row = self._db.execute("SELECT doc FROM docs WHERE kind = ? AND id = ?", (kind, doc_id)).fetchone()
        return None if row is None else _loads(row[0])

    def put(self, kind: str, doc: Mapping[str, Any]) -> None:
        """Insert or replace a document; it keeps its place in the order of insertion."""
        text = json.dumps(doc, separators=(",", ":"))
        self._db.execute(
            "INSERT INTO docs (kind, id, doc) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET doc = excluded.doc",
            (kind, doc["id"], text),
        )
        wanted = set(index_keys(kind, doc))
        present = set(self._db.execute("SELECT key, value FROM keys WHERE kind = ? AND id = ?", (kind, doc["id"])))
        self._db.executemany(
            "DELETE FROM keys WHERE kind = ? AND id = ? AND key = ?",
            [(kind, doc["id"], key) for key, _ in present - wanted],
        )
        self._db.executemany(
            "INSERT INTO keys (kind, id, key, value) VALUES (?, ?, ?, ?)",
            [(kind, doc["id"], key, value) for key, value in wanted - present],
        )

    def remove(self, kind: str, doc_id: str) -> None:
        """Delete a document; no error if there is none."""
        self._db.execute("DELETE FROM docs WHERE kind = ? AND id = ?", (kind, doc_id))
        self._db.execute("DELETE FROM keys WHERE kind = ? AND id = ?", (kind, doc_id))

    def candidates(self, kind: str, narrow: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
        """Documents in order of insertion, narrowed by indexed keys (and `id`); may hold more than match."""
        sql, args = "SELECT doc FROM docs WHERE kind = ?", [kind]
        for key, values in narrow.items():
            marks = ",".join("?" * len(values))
            if key == "id":
                sql += f" AND id IN ({marks})"
                args += values
            else:
                sql += f" AND id IN (SELECT id FROM keys WHERE kind = ? AND key = ? AND value IN ({marks}))"  # noqa: S608 - marks only
                args += [kind, key, *(value[:INDEXED_CHARACTERS] for value in values)]
        for (text,) in self._db.execute(sql + " ORDER BY seq", args):
            yield _loads(text)

    def entries(self, queue_id: str) -> list[dict[str, str]]:
        """What waits in a queue, first in first."""
        rows = self._db.execute("SELECT task, added FROM entries WHERE queue = ? ORDER BY seq", (queue_id,))
        return [{"task": task, "added": added} for task, added in rows]

    def length(self, queue_id: str) -> int:
        """How many entries a queue has."""
        row = self._db.execute("SELECT count(*) FROM entries WHERE queue = ?", (queue_id,)).fetchone()
        return int(row[0])

    def push(self, queue_id: str, task_id: str, added: str) -> None:
        """Append an entry."""
        self._db.execute("INSERT INTO entries (queue, task, added) VALUES (?, ?, ?)", (queue_id, task_id, added))

    def pop(self, queue_id: str) -> dict[str, str] | None:
        """Take the first entry off a queue."""
        row = self._db.execute(
            "DELETE FROM entries WHERE seq = (SELECT min(seq) FROM entries WHERE queue = ?) RETURNING task, added",
            (queue_id,),
        ).fetchone()
        return None if row is None else {"task": row[0], "added": row[1]}

    def unqueue(self, task_id: str, queue_id: str | None = None) -> int:
        """Remove a task's entries from one queue or from all; how many there were."""
        if queue_id is None:
            return self._db.execute("DELETE FROM entries WHERE task = ?", (task_id,)).rowcount
        return self._db.execute("DELETE FROM entries WHERE task = ? AND queue = ?", (task_id, queue_id)).rowcount

    def clear_queue(self, queue_id: str) -> None:
        """Remove all entries of a queue."""
        self._db.execute("DELETE FROM entries WHERE queue = ?", (queue_id,))

    def add_events(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Store `(task, type, event)`s."""
        rows = [(task, kind, json.dumps(event, separators=(",", ":"))) for task, kind, event in events]
        self._db.executemany("INSERT INTO events (task, type, doc) VALUES (?, ?, ?)", rows)

    def events(self, task_id: str, kind: str | None = None) -> list[dict[str, Any]]:
        """A task's events of one type, or all, in the order they came."""
        sql, args = "SELECT doc FROM events WHERE task = ?", [task_id]
        if kind is not None:
            sql += " AND type = ?"
            args.append(kind)
        return [_loads(text) for (text,) in self._db.execute(sql + " ORDER BY seq", args)]

    def remove_events(self, task_id: str) -> int:
        """Delete a task's events; how many there were."""
        return self._db.execute("DELETE FROM events WHERE task = ?", (task_id,)).rowcount


def index_keys(kind: str, doc: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The indexed fields of a document; for a task also its hyperparameters and runtime, by their filter names."""
    for name in INDEXED[kind]:
        if isinstance(doc.get(name), str):
            yield name, doc[name][:INDEXED_CHARACTERS]
    if kind == "task":
        for section, params in (doc.get("hyperparams") or {}).items():
            for name, param in params.items():
                yield f"hyperparams.{section}.{name}.value", str(param.get("value", ""))[:INDEXED_CHARACTERS]
        for name, value in (doc.get("runtime") or {}).items():
            yield f"runtime.{name}", str(value)[:INDEXED_CHARACTERS]


def _loads(text: str) -> dict[str, Any]:
    doc: dict[str, Any] = json.loads(text)
    return doc
