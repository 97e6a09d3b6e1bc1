"""A projection's file: state and offsets never disagree."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trainyard_runtime.projection import Entry, Projection, ProjectionUnavailable, held


def test_entries_and_offsets_come_back(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "deep" / "p.sqlite", identity="one")
    assert (projection.offsets(), projection.get("a")) == ({}, None)
    projection.write({"a": Entry("open", b"1"), "b": Entry("open", b"2")}, {("t", 0): 3})
    projection.write({"a": None, "b": Entry("ended", b"3")}, {("t", 0): 4, ("t", 1): 1})
    projection.close()
    again = Projection(tmp_path / "deep" / "p.sqlite", identity="one")
    assert again.offsets() == {("t", 0): 4, ("t", 1): 1}
    assert again.get("a") is None
    assert (list(again.entries("open")), list(again.entries("ended"))) == ([], [("b", b"3")])
    assert (again.count("open"), again.count("ended")) == (0, 1)


def test_a_write_that_fails_changes_neither_state_nor_offsets(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "p.sqlite", identity="one")
    projection.write({"a": Entry("k", b"1")}, {("t", 0): 1})
    broken: dict[str, Entry | None] = {"b": Entry("k", b"2"), "c": Entry("k", None)}  # type: ignore[arg-type]
    with pytest.raises(ProjectionUnavailable):
        projection.write(broken, {("t", 0): 2})
    assert projection.get("b") is None
    assert projection.offsets() == {("t", 0): 1}
    projection.write({"b": Entry("k", b"2")}, {("t", 0): 2})
    assert projection.offsets() == {("t", 0): 2}


def test_another_identity_starts_over(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "p.sqlite", identity="one")
    projection.write({"a": Entry("k", b"1")}, {("t", 0): 1})
    projection.close()
    other = Projection(tmp_path / "p.sqlite", identity="two")
    assert (other.get("a"), other.offsets()) == (None, {})


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    Projection(tmp_path / "p.sqlite", identity="one").close()
    connection = sqlite3.connect(tmp_path / "p.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    projection = Projection(tmp_path / "p.sqlite", identity="one")
    assert projection._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_file_that_is_no_database_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "p.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(ProjectionUnavailable, match=r"p\.sqlite"):
        Projection(tmp_path / "p.sqlite", identity="one")


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path / "state") as folder:
        assert folder.is_dir()
        with pytest.raises(ProjectionUnavailable, match="another process"), held(tmp_path / "state"):
            pass
    with held(tmp_path / "state"):
        pass
