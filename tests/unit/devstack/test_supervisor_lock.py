"""One supervisor per home; who only asks whether one runs keeps nobody from being it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainyard_devstack import control, home_files
from trainyard_devstack.control import start_stack
from trainyard_devstack.errors import DevstackError
from trainyard_devstack.home_files import StackRecord, make_home, running_supervisor, supervisor_lock, write_record
from trainyard_devstack.settings import StackSettings
from trainyard_devstack.stack import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    make_home(made)
    made.lock.write_text("1234", encoding="ascii")  # an earlier supervisor's
    return made


@contextmanager
def held(home: Home, kind: int) -> Iterator[Callable[[], None]]:
    """Somebody holds a lock of this kind; gives the way to release it."""
    with home.lock.open("r+", encoding="ascii") as handle:
        fcntl.flock(handle, kind)
        yield lambda: fcntl.flock(handle, fcntl.LOCK_UN)


def test_a_supervisor_that_starts_at_the_instant_of_a_question_waits_for_its_end(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    with held(home, fcntl.LOCK_SH) as end_of_question:

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            end_of_question()

        monkeypatch.setattr("time.sleep", sleep)
        with supervisor_lock(home):
            assert running_supervisor(home) == os.getpid()
    assert len(waited) == 1
    assert running_supervisor(home) is None


def test_a_home_that_has_a_supervisor_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_files, "PROBES_END_S", 0.1)
    with (
        held(home, fcntl.LOCK_EX),
        pytest.raises(DevstackError, match="A stack already runs in"),
        supervisor_lock(home),
    ):
        pass
    with supervisor_lock(home):
        assert running_supervisor(home) == os.getpid()


class Started(Exception):
    pass


def test_a_start_waits_for_a_stack_that_is_ending(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise Started

    monkeypatch.setattr(control, "prepare", start)
    write_record(home, StackRecord(1234, services={"stats": (1, 80)}, ending=True))
    with held(home, fcntl.LOCK_EX) as end_of_the_other:
        monkeypatch.setattr("time.sleep", lambda _: end_of_the_other())
        with pytest.raises(Started):
            start_stack(StackSettings(home=home.path), lambda _: None)


def test_two_who_ask_at_once_do_not_take_each_other_for_a_supervisor(home: Home) -> None:
    with held(home, fcntl.LOCK_SH):
        assert running_supervisor(home) is None


def test_where_no_home_can_be_there_runs_no_supervisor(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert running_supervisor(Home(tmp_path / "file")) is None
