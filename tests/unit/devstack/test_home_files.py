"""Files of the home that are damaged, or may not be written, cost a sentence at most."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainyard_devstack import home_files
from trainyard_devstack.control import stack_status
from trainyard_devstack.errors import ConfigurationError, DevstackError
from trainyard_devstack.home_files import (
    StackRecord,
    make_home,
    read_credentials,
    read_or_make_credentials,
    read_record,
    supervisor_lock,
    write_record,
)
from trainyard_devstack.settings import StackSettings
from trainyard_devstack.stack import Home
from trainyard_devstack.supervisor import Supervisor


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    make_home(made)
    return made


def test_a_record_comes_back_as_it_was_written(home: Home) -> None:
    record = StackRecord(7, "b", "p.", "a", "f", {"stats": (None, 80)}, ("stats",), ending=True)
    write_record(home, record)
    assert read_record(home) == record


@pytest.mark.parametrize("content", ["", "{"])
def test_a_damaged_record_is_none(home: Home, content: str) -> None:
    home.record.write_text(content)
    assert read_record(home) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_keys_are_drawn_again(home: Home, content: str) -> None:
    home.credentials.write_text(content)
    with pytest.raises(ConfigurationError, match=r"credentials\.json is damaged: `./trainyard down`"):
        read_credentials(home)
    made = read_or_make_credentials(home)
    assert read_credentials(home) == made
    assert home.credentials.stat().st_mode & 0o777 == 0o600


def test_a_lock_whose_file_was_removed_or_replaced_is_ours_no_more(home: Home) -> None:
    with supervisor_lock(home) as is_ours:
        assert is_ours()
        home.lock.unlink()
        assert not is_ours()
        home.lock.write_text("another's")
        assert not is_ours()


def test_a_home_that_may_not_be_written_is_said_to_be_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (home.logs, os.W_OK))
    with pytest.raises(ConfigurationError, match=r"cannot be used \(.*logs is not to be written to\)"):
        make_home(home)


def test_a_home_that_may_not_be_read_is_said_to_be_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ConfigurationError, match=r"cannot be used \(Permission denied\)"):
        stack_status(StackSettings(home=home.path))


def test_a_record_that_cannot_be_written_is_told_once_and_written_later(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    supervisor = Supervisor(StackSettings(home=home.path), notify=told.append)

    def is_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("trainyard_devstack.supervisor.write_record", is_full)
        supervisor._note("stats", 5, 80)
        supervisor._note("stats", None, 80)
    assert [sentence.rpartition("/")[2] for sentence in told] == [
        "stack.json cannot be written (No space left on device); it is tried again."
    ]
    supervisor._note("stats", 6, 80)
    record = read_record(home)
    assert record is not None
    assert record.services == {"stats": (6, 80)}


def test_without_a_supervisor_there_is_no_stack(home: Home) -> None:
    with pytest.raises(DevstackError, match="No stack runs in"):
        stack_status(StackSettings(home=home.path))
    assert home_files.running_supervisor(home) is None
