from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import mutual_info_classif

from trainyard_trainer_worker.training.analysis import MAX_ROWS, Analysis, Unavailable
from trainyard_trainer_worker.training.frames import Column

COLUMNS = (Column("n", "number"), Column("c", "category"), Column("d", "date"))


def analysis(rows: int = 200, classes: tuple[str, ...] = ("no", "yes")) -> tuple[Analysis, pd.DataFrame, Any]:
    chance = np.random.RandomState(2)
    numbers = chance.randn(rows)
    target = (numbers > 0).astype(np.int64) if classes else numbers * 2
    numbers[::7] = np.nan
    features = pd.DataFrame(
        {
            "n": numbers,
            "c": pd.Series(["x", "y", np.nan, "z"] * (rows // 4), dtype="object"),
            "d": pd.Series([f"20{10 + i % 15}-01-01" for i in range(rows)], dtype="object"),
        }
    )
    return Analysis(features, target, COLUMNS, classes, 1), features, target


def test_the_summary_counts_what_is_missing_and_names_the_kinds() -> None:
    over, features, _ = analysis()
    table = over.table("summary", None)
    assert table["kind"].to_dict() == {"n": "number", "c": "category", "d": "date"}
    assert table["missing"].to_dict() == features.isna().sum().to_dict()
    assert table.loc["n", "mean"] == pytest.approx(features["n"].mean())


def test_correlations_are_of_what_has_an_order() -> None:
    over, features, target = analysis()
    assert list(over.table("corr", None).columns) == ["n", "d"]
    shown = over.table("target_corr", None)
    assert list(shown.columns) == ["yes"]
    assert shown.loc["n", "yes"] == pytest.approx(features["n"].corr(pd.Series(target.astype(float))))
    of_numbers, features, target = analysis(classes=())
    assert of_numbers.table("target_corr", None).loc["n", "target"] == pytest.approx(1.0)


def test_mutual_information_ranks_what_tells_of_the_target_first() -> None:
    over, features, target = analysis()
    table = over.table("mutual_info", None)
    assert table.index[0] == "n"
    codes = pd.factorize(features["c"])[0].astype(float)
    codes[codes < 0] = np.nan
    filled = pd.Series(codes).fillna(pd.Series(codes).median()).to_numpy().reshape(-1, 1)
    expected = mutual_info_classif(filled, target, discrete_features=[True])[0]
    assert table.loc["c", "mutual_info"] == pytest.approx(expected)


def test_large_data_are_sampled() -> None:
    over, _, _ = analysis(rows=40_000)
    table = over.table("summary", None)
    assert table["count"]["c"] + table["missing"]["c"] == MAX_ROWS


def test_without_shap_the_part_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(Unavailable, match="pip install shap"):
        analysis()[0].table("shap", None)
