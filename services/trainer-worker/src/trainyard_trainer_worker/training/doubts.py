"""What in a column makes one doubt that it is used as it was meant. Pure; every doubt is a sentence for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from trainyard_schemas.number_notation import is_written_number
from trainyard_trainer_worker.spec import listed
from trainyard_trainer_worker.training import frames
from trainyard_trainer_worker.training.frames import MAX_INFERRED_CLASSES, NUMBER_SHARE, Column

MOSTLY = 0.5
"""From this share of numbers on a column of text is doubted."""
SAMPLE = 10_000
"""About so many values of a column of text are looked at, evenly."""


def of_training(table: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    """The doubts about the columns of the training part: text where numbers or dates are, and numbers taken as text."""
    found = [
        f"column {listed([name])} holds numbers, and text in {rows} rows ({listed(some)}): it counts as missing"
        for name, rows, some in frames.texts_among_numbers(table, columns)
    ]
    for column in columns:
        values = table[column.name].dropna()
        if column.kind == "date" and len(wrong := not_dates(values)):
            found.append(
                f"column {listed([column.name])} holds dates, and something else in {len(wrong)} rows "
                f"({some_of(wrong)}): it counts as missing"
            )
        elif column.kind == "category":
            found += _of_text(column.name, values.astype(str))
    return found


def of_prediction(table: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    """The doubts about the columns of rows to predict, beside what the model was trained on."""
    found = [
        f"column {listed([name])} holds numbers in training, and text in {rows} rows here ({listed(some)}), which"
        " counts as missing"
        for name, rows, some in frames.texts_among_numbers(table, columns)
    ]
    for column in columns:
        values = table[column.name].dropna()
        if column.kind == "date" and len(wrong := not_dates(values)):
            found.append(
                f"column {listed([column.name])} holds dates like 2026-01-31 in training, and something else in "
                f"{len(wrong)} rows here ({some_of(wrong)}), which counts as missing"
            )
        if column.values and len(unseen := values[~values.astype(str).isin(column.values)]):
            found.append(
                f"column {listed([column.name])} holds values in {len(unseen)} rows that were not in training "
                f"({some_of(unseen)}): the model knows nothing of them"
            )
    return found


def not_dates(values: pd.Series[Any]) -> pd.Series[Any]:
    """Those of `values` that are no dates as models read them: ISO 8601."""
    dates = pd.to_datetime(values.astype(str), errors="coerce", format="ISO8601", utc=True)
    return values[dates.isna().to_numpy()]


def some_of(values: pd.Series[Any]) -> str:
    """Up to three different ones, for a sentence."""
    return listed(list(values.unique()[:3]))


def _of_text(name: str, values: pd.Series[Any]) -> list[str]:
    values = values.iloc[:: max(1, len(values) // SAMPLE)]
    if values.nunique() <= MAX_INFERRED_CLASSES:
        return []
    numbers = pd.to_numeric(values, errors="coerce")
    is_number = numbers.notna().to_numpy(dtype=bool)
    others = values[~is_number]
    meant = is_number | np.array([is_written_number(value) for value in values], dtype=bool)
    if meant.mean() >= NUMBER_SHARE:
        return [
            f"column {listed([name])} is used as text, and looks like numbers written in another way "
            f"({some_of(others)}): write them like 1234.5"
        ]
    if is_number.mean() >= MOSTLY and numbers.nunique() > MAX_INFERRED_CLASSES:
        return [
            f"column {listed([name])} is used as text: {is_number.mean():.0%} of its values are numbers, and others "
            f"are not ({some_of(others)}); empty those, and it is one of numbers"
        ]
    return []
