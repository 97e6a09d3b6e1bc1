"""Shell completion, asked as a shell asks, and a real bash that loads the script."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from trainyard_submitter import cli
from trainyard_submitter.cli.completion import SCRIPTS, candidates

COMMANDS = {point.name: point for point in entry_points(group=cli.GROUP)}


@pytest.mark.parametrize(
    ("words", "some"),
    [
        ([""], {"runs", "train", "worker"}),
        (["tra"], {"train"}),
        (["runs", ""], {"cancel", "list", "retry"}),
        (["runs", "ca"], {"cancel"}),
        (["runs", "cancel", "--m"], {"--message"}),
        (["worker", ""], {"drain"}),
        (["worker", "drain", "--w"], {"--worker"}),
        (["train", "--la"], {"--label"}),
    ],
)
def test_the_last_word_is_completed(words: list[str], some: set[str]) -> None:
    found = candidates(words, COMMANDS)
    assert some <= set(found)
    assert all(word.startswith(words[-1]) for word in found)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_has_a_completion_of_its_own_beside_the_roots(name: str) -> None:
    options = {option for parameter in cli.as_command(COMMANDS[name].load()).params for option in parameter.opts}
    assert not options & {"--install-completion", "--show-completion"}


def test_where_a_file_belongs_the_shell_is_left_alone() -> None:
    assert candidates(["train", "my"], COMMANDS) == []
    assert candidates(["nothing", ""], COMMANDS) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_printed_script(tmp_path: Path) -> None:
    command = tmp_path / "trainyard"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m trainyard_submitter "$@"\n')
    command.chmod(0o755)
    script = f"{SCRIPTS['bash']}\nCOMP_WORDS=({command} runs pri); COMP_CWORD=2; _trainyard; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "prioritise\n"


def test_installing_twice_adds_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("alias x=y")
    for _ in range(2):
        assert cli.main(["--install-completion", "bash"]) == 0
    lines = (tmp_path / ".bashrc").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0] == "alias x=y"
    assert Path(lines[1].split('"')[1]).read_text() == SCRIPTS["bash"]
    assert "open a new shell" in capsys.readouterr().err


def test_an_unknown_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--show-completion", "tcsh"]) == 2
    assert "bash|zsh|fish" in capsys.readouterr().err
