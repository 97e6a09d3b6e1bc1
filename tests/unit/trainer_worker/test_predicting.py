"""Predicting a file with a packed model, as the process that does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit.trainer_worker.test_packing import packed, rewrite
from trainyard_trainer_worker.training import packing
from trainyard_trainer_worker.training.frames import Column
from trainyard_trainer_worker.training.predicting import Unusable, as_table, judge_columns, predict_file


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, str]:
    """A model of y = 2 x, with the label's name in its manifest."""
    path, _ = packed(tmp_path, [2.0, 5.0, 2.0])
    manifest = {**packing.read(path).manifest, "label": "y"}
    rewrite(path, {packing.MANIFEST: json.dumps(manifest).encode()})
    return path, packing.sha256(path.read_bytes())


def ask(model: tuple[Path, str], csv: str, *more: str) -> tuple[int, dict[str, Any], Path]:
    path, sha256 = model
    data, out = path.parent / "new.csv", path.parent / "out.csv"
    data.write_text(csv)
    command = [sys.executable, "-m", "trainyard_trainer_worker.training.predicting", str(path), "--sha256", sha256]
    done = subprocess.run(
        [*command, "--data", str(data), "--out", str(out), *more], capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout), out


def test_one_prediction_per_row_in_the_file_s_order(model: tuple[Path, str]) -> None:
    status, verdict, out = ask(model, "extra,x,y\na,3,1\nb,,2\nc,1,3\n")
    assert (status, verdict["rows"]) == (0, 3)
    assert verdict["warnings"] == ["columns that the model does not know are not used: 'extra'"]
    assert pd.read_csv(out)["prediction"].round(6).tolist() == [6.0, 2.0, 2.0]
    assert [p.name for p in out.parent.iterdir() if "partial" in p.name] == []


def test_a_blank_line_in_a_file_of_one_column_is_a_row_and_one_at_its_end_is_none(model: tuple[Path, str]) -> None:
    status, verdict, out = ask(model, "x\n3\n\n1\n\n")
    assert (status, verdict["rows"]) == (0, 3)
    assert pd.read_csv(out)["prediction"].round(6).tolist() == [6.0, 2.0, 2.0]


def test_a_place_that_does_not_exist_is_named(model: tuple[Path, str]) -> None:
    path, sha256 = model
    data = path.parent / "new.csv"
    data.write_text("x\n1\n")
    out = path.parent / "nowhere" / "out.csv"
    command = [sys.executable, "-m", "trainyard_trainer_worker.training.predicting", str(path), "--sha256", sha256]
    done = subprocess.run(
        [*command, "--data", str(data), "--out", str(out)], capture_output=True, text=True, check=False
    )
    problem = json.loads(done.stdout)["problem"]
    assert "nowhere" in problem
    assert "None" not in problem


@pytest.mark.parametrize(
    ("csv", "more", "problem"),
    [
        ("z\n1\n", (), "lacks 1 of the 1 columns that the model was trained on: 'x'"),
        ("x\n1\n", ("--proba",), "predicts numbers"),
        ("", (), "the file is empty"),
        ("x\n", (), "no rows"),
        ("x\n1\n", ("--sha256", "0" * 64), "SHA-256 is not the expected one"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_one_sentence(
    model: tuple[Path, str], csv: str, more: tuple[str, ...], problem: str
) -> None:
    status, verdict, out = ask(model, csv, *more)
    assert (status, verdict["ok"]) == (3, False)
    assert problem in verdict["problem"]
    assert not out.exists()


def test_a_member_that_would_lie_elsewhere_is_not_unpacked(model: tuple[Path, str]) -> None:
    path, _ = model
    rewrite(path, {"../evil": b"x"})
    with pytest.raises(packing.BadArchive, match="has no place in it"):
        predict_file(path, packing.sha256(path.read_bytes()), path, path.parent / "out.csv", proba=False)
    assert not (path.parent.parent / "evil").exists()


def test_text_in_a_column_of_numbers_is_told() -> None:
    table = pd.DataFrame({"x": ["1", "two", None]})
    assert "text in 1 rows" in judge_columns(table, [Column("x", "number")], "y")[0]
    with pytest.raises(Unusable, match="'missing'"):
        judge_columns(table, [Column("missing", "number")], "y")


def test_classes_go_by_their_names() -> None:
    import numpy as np

    from trainyard_trainer_worker.training.evaluation import Predictions

    answer = Predictions(np.array([1, 0]), np.array([[0.25, 0.75], [1.0, 0.0]]))
    table = as_table(answer, ["no", "yes"], proba=True)
    assert table.to_dict("list") == {
        "prediction": ["yes", "no"],
        "probability_no": [0.25, 1.0],
        "probability_yes": [0.75, 0.0],
    }
