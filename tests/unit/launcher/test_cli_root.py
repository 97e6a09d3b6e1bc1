"""The root of the command line: finds commands lazily, and turns every ending into its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import typer

from trainyard_submitter import cli


class Sentence(Exception):
    """As every package's own errors: one sentence and a status."""

    exit_code = 5


def _app(ending: BaseException | None = None) -> typer.Typer:
    app = typer.Typer(add_completion=False)

    @app.command(help="Do a thing.\n\nAt length.")
    def act(number: int = 0) -> None:
        if ending is not None:
            raise ending
        sys.stdout.write(f"acted {number}\n")

    return app


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The commands that are installed, by name; a test puts its own there."""
    installed: dict[str, Any] = {}

    class Point:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> object:
            loaded = installed[self.name]
            if isinstance(loaded, ImportError):
                raise loaded
            return loaded

    monkeypatch.setattr(cli, "entry_points", lambda group: [Point(name) for name in installed])
    return installed


def test_a_command_runs_with_its_arguments(commands: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    commands["act"] = _app()
    assert cli.main(["act", "--number", "7"]) == 0
    assert capsys.readouterr().out == "acted 7\n"


def test_an_unknown_command_lists_the_known_ones(commands: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    commands["submit"] = _app()
    assert cli.main(["sumbit"]) == 2
    assert "Did you mean `submit`? Known commands: bench, lock, submit, test." in capsys.readouterr().err


def test_a_wrong_option_is_a_usage_error(commands: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    commands["act"] = _app()
    assert cli.main(["act", "--number", "seven"]) == 2
    assert "Invalid value for '--number'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (Sentence("The broker is away."), 5),
        (typer.Exit(6), 6),
        (SystemExit(78), 78),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_every_ending_has_its_exit_status(
    commands: dict[str, Any], capfd: pytest.CaptureFixture[str], ending: BaseException, status: int
) -> None:
    commands["act"] = _app(ending)
    # BrokenPipe replaces the process's stdout, so that case runs with a copy of it.
    kept = os.dup(1)
    try:
        assert cli.main(["act"]) == status
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def test_an_expected_error_is_one_sentence_on_stderr(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    commands["act"] = _app(Sentence("The broker is away: start it."))
    cli.main(["act"])
    assert capsys.readouterr().err == "trainyard: The broker is away: start it.\n"


def test_a_defect_is_not_dressed_up_as_an_expected_error(commands: dict[str, Any]) -> None:
    commands["act"] = _app(ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        cli.main(["act"])


def test_help_lists_every_command_even_where_one_cannot_be_imported(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    commands.update(act=_app(), torn=ImportError("no module named x"))
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "act    Do a thing.\n" in out
    assert "torn   (not usable here: no module named x)" in out


def test_no_command_at_all_is_a_usage_error(commands: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("Usage: trainyard COMMAND")


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    command = f"{sys.executable} -m trainyard_submitter --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_an_output_that_cannot_be_written_for_want_of_space_is_one_sentence() -> None:
    command = f"{sys.executable} -m trainyard_submitter --help > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert done.stderr.startswith("trainyard: no space is left on the device")


def test_every_promised_command_is_installed() -> None:
    from importlib.metadata import entry_points

    installed: list[EntryPoint] = list(entry_points(group=cli.GROUP))
    names = [point.name for point in installed]
    assert len(names) == len(set(names))
    assert {"submit", "runs", "up", "down", "status", "worker", "dispatcher", "topics", "stats", "sim"} <= set(names)
    for point in installed:
        point.load()
