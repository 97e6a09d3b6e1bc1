"""What the commands refuse before they ask anybody: with the option's name, and what to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard_submitter.cli import main

NOWHERE = ("--bootstrap", "127.0.0.1:1")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    made = tmp_path / "my.csv"
    made.write_text("a,y\n" + "1,x\n2,z\n" * 10)
    return made


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--test-size", "nan"), "--test-size: nan is no share of the rows"),
        (("--test-size", "2"), "--test-size: 2 is no share of the rows"),
        (("--time", "inf"), "--time: inf is no time"),
    ],
)
def test_train_names_the_option_that_is_no_number(
    table: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str], said: str
) -> None:
    status = main(["train", str(table), "--label", "y", *options, *NOWHERE])
    assert (status, said in (told := capsys.readouterr().err)) == (3, True), told


@pytest.mark.parametrize(
    ("out", "said"), [("", "is a folder; name the file"), ("none/p.csv", "is not there; make it first")]
)
def test_predict_wants_a_file_to_write_to(table: Path, capsys: pytest.CaptureFixture[str], out: str, said: str) -> None:
    status = main(["predict", "0" * 8, str(table), "--out", str(table.parent / out), *NOWHERE])
    assert (status, said in (told := capsys.readouterr().err)) == (3, True), told
    assert "--out" in told


def test_the_help_says_that_two_groups_mean_their_combination(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    assert "given twice, rows equal in both columns" in " ".join(capsys.readouterr().out.split())
