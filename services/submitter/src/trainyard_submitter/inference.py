"""What a label column asks for: task and metric, with the reason in one sentence. Pure, and never the last word: the
caller may name both, and the worker judges the data again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Literal, NoReturn

from trainyard_schemas.codec import printable
from trainyard_schemas.errors import FieldError
from trainyard_schemas.number_notation import is_written_number, notation_of
from trainyard_submitter.errors import InvalidRequest

TaskType = Literal["classification", "regression"]
CLASSIFICATION: TaskType = "classification"
REGRESSION: TaskType = "regression"
# What the worker trains on at least, and the most whole numbers that it too takes for classes.
MIN_ROWS = 10
MAX_NUMBER_CLASSES = 20
# A class with this share of the rows makes a model that always names it look good by accuracy.
DOMINANT_SHARE = 0.8
# Where so few of many numbers are text, the text is dirt (a mark for a missing value), not a class.
DIRT_SHARE = 0.1
DATE_SHARE = 0.95
# Where so many labels look like numbers, and more than dirt among them is written in another way, none is a class.
WRITTEN_SHARE = 0.95
# What pandas, with which the worker reads, takes for a missing value.
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)


@dataclass(frozen=True, slots=True)
class Inference:
    """Task and metric, why in one sentence, and what else the person should know."""

    task_type: TaskType
    metric: str
    sentence: str
    warnings: tuple[str, ...] = ()


@dataclass
class LabelColumn:
    """What is kept of a label column while its file is read: how often each value occurs, how many are missing, and as
    which texts other than none."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    missing_texts: Counter[str] = field(default_factory=Counter)

    @property
    def present(self) -> int:
        """Rows that have a label."""
        return self.counts.total()

    def add(self, values: Iterable[str]) -> None:
        """Further rows, in any order."""
        for value in values:
            stripped = value.strip()
            if stripped in MISSING:
                self.missing += 1
                if stripped:
                    self.missing_texts[stripped] += 1
            else:
                self.counts[stripped] += 1


def label_index(header: Sequence[str], label: str, split_at: str = "commas") -> int:
    """Where the label column is. Raises InvalidRequest, naming the nearest column."""
    if label in header:
        return list(header).index(label)
    folded = {name.casefold(): name for name in header}
    near = get_close_matches(label.casefold(), list(folded), n=1, cutoff=0.5)
    hint = f" Did you mean '{printable(folded[near[0]])}'?" if near else ""
    there = _columns(header, split_at)
    refuse("label_missing", "--label", f"there is no column '{printable(label)}'.{hint} {there}")


def group_columns(header: Sequence[str], groups: Sequence[str], label: str, split_at: str = "commas") -> None:
    """Check the columns of --group. Raises InvalidRequest."""
    for name in groups:
        if name == label:
            refuse("group_key_missing", "--group", f"'{printable(name)}' is the label; name another column")
        if name not in header:
            near = get_close_matches(name, list(header), n=1, cutoff=0.5)
            hint = f" Did you mean '{printable(near[0])}'?" if near else ""
            there = _columns(header, split_at)
            refuse("group_key_missing", "--group", f"there is no column '{printable(name)}'.{hint} {there}")


def infer(column: LabelColumn, *, task_type: TaskType | None = None, metric: str | None = None) -> Inference:
    """Task and metric of a label column; what the caller names holds.

    Raises InvalidRequest (label_missing, too_few_rows, one_class, label_is_id, label_is_date, label_not_numeric,
    too_many_classes), each with what to do.
    """
    name = f"'{printable(column.name)}'"
    counted = _counted_as_missing(column)
    if column.present == 0:
        refuse("too_few_rows", "--label", f"column {name} holds no value in any row{counted}; name another label")
    if len(column.counts) == 1:
        only = printable(next(iter(column.counts)))
        every = "every row with a value has" if column.missing else "every row has"
        advice = "if that is a class, give it another name" if counted else "there is nothing to learn"
        refuse("one_class", "--label", f"{every} the same value '{only}' in {name}{counted}; {advice}")
    if column.present < MIN_ROWS:
        refuse(
            "too_few_rows",
            "--label",
            f"{column.present} rows have a value in {name}{counted}; at least {MIN_ROWS} are needed",
        )
    chosen, because = (task_type, "as you asked") if task_type else _task_of(column, name)
    if task_type == REGRESSION and any(_number(value) is None for value in column.counts):
        _not_written_otherwise(column, name, "")
        refuse("label_not_numeric", "--task", f"regression needs numbers in {name}, and {_texts(column)}")
    figure, why_metric = _metric_of(column, chosen) if metric is None else (metric, "as you asked")
    warnings = []
    if column.missing:
        rows = column.missing + column.present
        warnings.append(f"{column.missing} of {rows} rows have no {name}{counted} and are left out")
    return Inference(
        chosen,
        figure,
        f"This is {chosen}: {because}; models are compared by {figure}, {why_metric}.",
        tuple(warnings),
    )


def refuse(detail: str, path: str, message: str) -> NoReturn:
    """Raises InvalidRequest."""
    raise InvalidRequest(detail, (FieldError(path, message),))


def _columns(header: Sequence[str], split_at: str) -> str:
    """The columns of a file, and what was taken to split them, for that may be what is wrong."""
    if len(header) == 1:
        return f"The only column is '{printable(header[0], 200)}': no comma, semicolon, tab or pipe splits it"
    names = ", ".join(f"'{printable(name, 40)}'" for name in header[:20]) + (", ..." if len(header) > 20 else "")
    return f"The columns, split at {split_at}, are {names}"


def _counted_as_missing(column: LabelColumn) -> str:
    """`('None' counts as missing)`, with a blank before it; empty where only empty fields are missing."""
    texts = [f"'{text}'" for text, _ in column.missing_texts.most_common(3)]
    if not texts:
        return ""
    more = ", ..." if len(column.missing_texts) > len(texts) else ""
    return f" ({', '.join(texts)}{more} {'counts' if len(column.missing_texts) == 1 else 'count'} as missing)"


def _task_of(column: LabelColumn, name: str) -> tuple[TaskType, str]:
    distinct, rows = len(column.counts), column.present
    numbers = [number for value in column.counts if (number := _number(value)) is not None]
    text_rows = sum(count for value, count in column.counts.items() if _number(value) is None)
    if text_rows and len(numbers) > MAX_NUMBER_CLASSES and text_rows <= DIRT_SHARE * rows:
        refuse(
            "label_not_numeric",
            "--label",
            f"{name} holds numbers, but {_texts(column)}; clean those rows, or say --task classification",
        )
    if text_rows:
        return _classes_of_text(column, name)
    whole = all(number.is_integer() for number in numbers)
    if whole and distinct == rows and _is_consecutive(numbers):
        refuse(
            "label_is_id",
            "--label",
            f"{name} counts the rows (every value occurs once, from {min(numbers):.0f} to {max(numbers):.0f}), so it is"
            " an id; name another label, or say --task regression",
        )
    if distinct == 2:
        return CLASSIFICATION, f"{name} has 2 different values ({_listed(column)})"
    if whole and distinct <= MAX_NUMBER_CLASSES:
        return CLASSIFICATION, f"{name} has {distinct} different whole numbers ({_listed(column)})"
    if whole:
        return REGRESSION, f"{name} holds {distinct} different whole numbers"
    return REGRESSION, f"{name} holds {'few' if distinct <= MAX_NUMBER_CLASSES else distinct} different decimal numbers"


def _classes_of_text(column: LabelColumn, name: str) -> tuple[TaskType, str]:
    distinct, rows = len(column.counts), column.present
    if distinct > 2:
        _not_written_otherwise(column, name, ", or say --task classification")
    dates = sum(count for value, count in column.counts.items() if _is_date(value))
    if dates >= DATE_SHARE * rows and distinct > 2:
        refuse(
            "label_is_date",
            "--label",
            f"{name} holds dates, which no trainer predicts; make a column with a number of them and name that,"
            " or say --task classification",
        )
    if distinct == rows:
        refuse(
            "label_is_id",
            "--label",
            f"{name} has another text in each of {rows} rows, so it is an id; name another label",
        )
    if distinct > max(MAX_NUMBER_CLASSES, rows // 2):
        refuse(
            "too_many_classes",
            "--label",
            f"{name} has {distinct} different texts in {rows} rows, too many to learn; name another label",
        )
    return CLASSIFICATION, f"{name} holds text with {distinct} different values ({_listed(column)})"


def _not_written_otherwise(column: LabelColumn, name: str, instead: str) -> None:
    """Refuse a column of numbers that the worker would read as text. Raises InvalidRequest."""
    texts = [value for value, _ in column.counts.most_common() if _number(value) is None and is_written_number(value)]
    written, rows = sum(column.counts[value] for value in texts), column.present
    numbers = sum(count for value, count in column.counts.items() if _number(value) is not None)
    if written < DIRT_SHARE * rows or written + numbers < WRITTEN_SHARE * rows:
        return
    found = notation_of(texts)
    shown = ", ".join(printable(text, 24) for text in found.examples)
    refuse(
        "label_not_numeric",
        "--label",
        f"{name} looks like numbers written with {found.words} ({shown}): {found.advice}"
        f" ({printable(found.plain, 24)}){instead}",
    )


def _metric_of(column: LabelColumn, task_type: TaskType) -> tuple[str, str]:
    if task_type == REGRESSION:
        return "rmse", "the typical error in the label's own unit"
    value, count = column.counts.most_common(1)[0]
    share = count / column.present
    if share >= DOMINANT_SHARE:
        return "balanced_accuracy", f"since {share:.0%} of the rows are '{printable(value, 40)}'"
    return "accuracy", "the share of right answers"


def _number(text: str) -> float | None:
    """The number in a cell as the worker reads it; `1_000`, which Python takes, is text there."""
    if "_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_consecutive(numbers: Sequence[float]) -> bool:
    """Only asked of numbers that are all different."""
    return max(numbers) - min(numbers) == len(numbers) - 1


def _listed(column: LabelColumn) -> str:
    names = [printable(value, 24) for value, _ in column.counts.most_common(4)]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _texts(column: LabelColumn) -> str:
    texts = [value for value in column.counts if _number(value) is None]
    rows = sum(column.counts[value] for value in texts)
    shown = ", ".join(f"'{printable(value, 24)}'" for value in texts[:3])
    return f"{rows} row{'s hold' if rows != 1 else ' holds'} text such as {shown}"
