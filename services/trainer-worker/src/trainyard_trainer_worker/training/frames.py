"""From a parsed table to features and a target: column kinds, labels, classes. Pure: no I/O, no fitting.

Every trainer sees the same three kinds of columns: `number` (float64; booleans are 0 and 1), `category` (text) and
`date` (ISO 8601 text). Whatever must be learned from data (medians, categories) is learned later, by the model's own
pipeline, from the training part only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainyard_trainer_worker.spec import Detail, clean, invalid_dataset, invalid_request, listed

MIN_ROWS = 10
DATE_SHARE = 0.95
NUMBER_SHARE = 0.95
"""Of the values of a column of numbers; the others (`?`, `n/a`) count as missing."""
DATE_SAMPLE = 1_000
MAX_INFERRED_CLASSES = 20
MAX_CLASSES = 1_000
MAX_VALUES = 200
MAX_INT = 2**63 - 1  # events hold no larger integer
MAX_EXACT = 2**53
MAX_NUMBER = 3.4e38  # trees compute in float32, where more is infinite and refused

_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?\d+\Z")

Kind = Literal["number", "category", "date"]
TaskType = Literal["classification", "regression"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Column:
    """A feature: its name in the data and what it holds. `values` are a category's in the training part, where they
    are no more than `MAX_VALUES`; else nothing."""

    name: str
    kind: Kind
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """The label of the rows that have one.

    `rows` are positions in the parsed table (0 is the first line of data). For classification `values` are codes into
    `classes`, which are sorted; for regression they are the numbers and `classes` is empty.
    """

    task_type: TaskType
    rows: Ints
    values: npt.NDArray[Any]
    classes: tuple[Any, ...]
    dropped_rows: int


def make_target(frame: pd.DataFrame, label: str, task_type: str | None) -> Target:
    """The target in column `label`; rows without a finite label are dropped and counted.

    Where the column holds the text of the file, classes go by what is written there (`01`, `true`), and whole numbers
    that are written plainly are numbers.

    Raises AttemptError: label_missing, too_few_rows, one_class, label_not_numeric, label_out_of_range,
    too_many_classes, field_invalid.
    """
    if label not in frame.columns:
        raise invalid_dataset(
            Detail.LABEL_MISSING, f"there is no column {clean(label)}; the columns are {listed(list(frame.columns))}"
        )
    written = frame[label]
    column = _read(written)
    kind = _task_type(column, task_type)
    if kind == "regression":
        numbers = _numeric_label(column, label)
        present = np.isfinite(numbers)
        _refuse_large(numbers[present], label)
        return _checked(Target(kind, np.flatnonzero(present), numbers[present], (), int((~present).sum())), label)
    present = column.notna().to_numpy(dtype=bool)
    if pd.api.types.is_float_dtype(column):
        present = np.isfinite(column.to_numpy(dtype=np.float64))
    labels = _as_written([_plain(value) for value in column[present]], list(written[present]))
    if any(isinstance(value, str) or (isinstance(value, int) and abs(value) > MAX_INT) for value in labels):
        labels = [str(value) for value in labels]
    classes = tuple(sorted(set(labels)))
    position = {value: code for code, value in enumerate(classes)}
    codes = np.array([position[value] for value in labels], dtype=np.int64)
    return _checked(Target(kind, np.flatnonzero(present), codes, classes, int((~present).sum())), label)


def _read(written: pd.Series[Any]) -> pd.Series[Any]:
    """A column of text as the numbers or truth values that all of it means, else as it is."""
    known = written[written.notna()]
    if not len(known) or not all(isinstance(value, str) for value in known):
        return written
    if set(known) <= _TRUTHS.keys():
        return written.map(_TRUTHS)
    numbers = pd.to_numeric(known, errors="coerce")
    return written if numbers.isna().any() else numbers.reindex(written.index)


def _as_written(labels: list[Any], written: list[Any]) -> list[Any]:
    """The labels by their text in the file, unless that says no more, or says the same in several ways (1 and 1.0)."""
    said = set(zip(labels, written, strict=True))
    if all(not isinstance(text, str) or str(value) == text.removeprefix("+") for value, text in said):
        return labels
    one_to_one = len(said) == len(set(labels))
    return written if one_to_one or all(_WHOLE.match(text) for _, text in said) else labels


def _task_type(column: pd.Series[Any], asked: str | None) -> TaskType:
    if asked == "classification":
        return "classification"
    if asked == "regression":
        return "regression"
    if asked is not None:
        raise invalid_request(
            Detail.FIELD_INVALID, f"task_type is {clean(asked)}; this trainer knows classification and regression"
        )
    many = column.nunique() > MAX_INFERRED_CLASSES
    return "regression" if pd.api.types.is_numeric_dtype(column) and many else "classification"


def _numeric_label(column: pd.Series[Any], label: str) -> Floats:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = column[np.isnan(numbers) & column.notna().to_numpy(dtype=bool)]
    if len(wrong):
        raise invalid_dataset(
            Detail.LABEL_NOT_NUMERIC,
            f"regression needs numbers in {clean(label)}, but {len(wrong)} of {len(column)} rows hold text, such as "
            f"{listed(list(wrong.unique()[:3]))}; use task_type classification or clean the column",
        )
    return numbers


def _refuse_large(numbers: Floats, label: str) -> None:
    """Errors are squared and summed, and some libraries compute in float32: larger labels become infinite there."""
    large = numbers[np.abs(numbers) > MAX_NUMBER]
    if len(large):
        raise invalid_dataset(
            Detail.LABEL_OUT_OF_RANGE,
            f"label out of range: {len(large)} rows hold numbers beyond {MAX_NUMBER:g} in {clean(label)}, such as "
            f"{large[0]:g}; scale the column",
        )


def _plain(value: Any) -> Any:
    """A label as a Python value: integral floats become integers (a column with gaps reads as floats), where a float
    still tells one integer from the next."""
    item = value.item() if isinstance(value, np.generic) else value
    if isinstance(item, float) and item.is_integer() and abs(item) <= MAX_EXACT:
        return int(item)
    return item


def _checked(target: Target, label: str) -> Target:
    n = len(target.rows)
    if n < MIN_ROWS:
        raise invalid_dataset(
            Detail.TOO_FEW_ROWS, f"{n} rows have a value in {clean(label)}; at least {MIN_ROWS} are needed"
        )
    distinct = len(target.classes) if target.task_type == "classification" else len(np.unique(target.values))
    if distinct < 2:
        only = target.classes[0] if target.classes else target.values[0]
        raise invalid_dataset(
            Detail.ONE_CLASS,
            f"every row with a value in {clean(label)} has the same one, {clean(only)}; there is nothing to learn",
        )
    most = min(MAX_CLASSES, max(MAX_INFERRED_CLASSES, n // 2))
    if target.task_type == "classification" and distinct > most:
        other = "task_type regression or another label"
        if any(isinstance(value, str) for value in target.classes):
            other = "another label"
        raise invalid_dataset(
            Detail.TOO_MANY_CLASSES,
            f"{clean(label)} has {distinct} classes in {n} rows, and at most {most} can be learned; use {other}",
        )
    return target


def infer_columns(train: pd.DataFrame, excluded: Sequence[str]) -> tuple[Column, ...]:
    """The features in the training part and their kinds; columns without any value there are left out.

    Raises AttemptError(no_features).
    """
    columns = tuple(
        _column(name, train[name]) for name in train.columns if name not in excluded and bool(train[name].notna().any())
    )
    if not columns:
        raise invalid_dataset(
            Detail.NO_FEATURES, f"nothing is left to learn from beside {listed(list(excluded))}: add feature columns"
        )
    return columns


def _column(name: str, values: pd.Series[Any]) -> Column:
    kind = _kind(values)
    if kind != "category" or values.nunique() > MAX_VALUES:
        return Column(name, kind)
    return Column(name, kind, tuple(sorted(str(value) for value in values.dropna().unique())))


def _kind(column: pd.Series[Any]) -> Kind:
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    values = column.dropna()
    if all(isinstance(value, bool | np.bool_) for value in values):
        return "number"
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().mean() >= NUMBER_SHARE and numbers.nunique() > MAX_INFERRED_CLASSES:
        return "number"
    sample = values.iloc[:DATE_SAMPLE].astype(str)
    dates = pd.to_datetime(sample, errors="coerce", format="ISO8601", utc=True).notna()
    return "date" if dates.mean() >= DATE_SHARE else "category"


def texts_among_numbers(frame: pd.DataFrame, columns: Sequence[Column]) -> list[tuple[str, int, list[Any]]]:
    """The columns of numbers that hold text, in how many rows, and what it is, for example."""
    found = []
    for column in columns:
        values = frame[column.name]
        if column.kind == "number" and not pd.api.types.is_numeric_dtype(values):
            wrong = values[_numbers(values).isna() & values.notna()]
            if len(wrong):
                found.append((column.name, len(wrong), list(wrong.unique()[:3])))
    return found


def _numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    """float64; what is neither a number nor true or false is NaN."""
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    if pd.api.types.is_numeric_dtype(values):
        return numbers
    truths = values.map({text: float(truth) for text, truth in _TRUTHS.items()})
    return numbers.fillna(truths.astype("float64"))


def to_features(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """The table that models take: exactly `columns`, float64 or text with NaN; infinities count as missing,
    and what float32 cannot hold is cut to its range."""
    return pd.DataFrame({column.name: _converted(frame[column.name], column.kind) for column in columns})


def _converted(values: pd.Series[Any], kind: Kind) -> pd.Series[Any]:
    if kind == "number":
        numbers = _numbers(values)
        return numbers.where(np.isfinite(numbers)).clip(-MAX_NUMBER, MAX_NUMBER)
    text = [str(value) if known else np.nan for value, known in zip(values, values.notna(), strict=True)]
    return pd.Series(text, index=values.index, dtype="object")


def to_records(features: pd.DataFrame) -> list[list[Any]]:
    """Rows as JSON-safe lists; numbers survive the round trip through JSON exactly."""
    return [
        [None if value is None or value != value else value for value in row] for row in features.to_numpy().tolist()
    ]


def from_records(rows: Sequence[Sequence[Any]], columns: Sequence[Column]) -> pd.DataFrame:
    """The inverse of `to_records`."""
    data: Mapping[str, list[Any]] = {column.name: [row[i] for row in rows] for i, column in enumerate(columns)}
    series = {name: pd.Series(values, dtype="object") for name, values in data.items()}
    return to_features(pd.DataFrame(series), columns)
