"""A column that may not be used as it was meant is named, with what is in it; a plain one is not."""

from __future__ import annotations

import pandas as pd
import pytest

from trainyard_trainer_worker.training import doubts, frames
from trainyard_trainer_worker.training.frames import MAX_VALUES, Column

ROWS = 100


def of_training(*values: object) -> list[str]:
    table = pd.DataFrame({"a": list(values)})
    return doubts.of_training(table, frames.infer_columns(table, ()))


@pytest.mark.parametrize(
    "form",
    ["{},5", "1.{:03},50", "1,{:03}.50", "${}.10", "{} €", "-{}%", "1 {:03}", "1\u202f{:03},5", "1'{:03}"],
)
def test_numbers_written_in_another_way_are_named(form: str) -> None:
    (doubt,) = of_training(*(form.format(number) for number in range(ROWS)))
    assert doubt.startswith("column 'a' is used as text, and looks like numbers written in another way (")
    assert doubt.endswith("): write them like 1234.5")


def test_a_column_of_numbers_with_too_much_text_among_them_is_named() -> None:
    (doubt,) = of_training(*(str(number) if number % 10 else "?" for number in range(ROWS)))
    assert doubt == (
        "column 'a' is used as text: 90% of its values are numbers, and others are not ('?'); empty those, and it is "
        "one of numbers"
    )


def test_a_column_of_numbers_with_a_little_text_is_named_as_numbers() -> None:
    (doubt,) = of_training(*(str(number) if number % 50 else "?" for number in range(ROWS)))
    assert doubt == "column 'a' holds numbers, and text in 2 rows ('?'): it counts as missing"


def test_what_is_no_date_among_dates_is_named() -> None:
    days = [f"2026-01-{1 + number % 28:02}" for number in range(ROWS)]
    assert of_training(*days) == []
    (doubt,) = of_training(*days, "31.12.2025", "soon")
    assert doubt == "column 'a' holds dates, and something else in 2 rows ('31.12.2025', 'soon'): it counts as missing"


@pytest.mark.parametrize(
    "form", ["word {}", "10.0.0.{}", "v1.{}", "A-{}", "2026-{}", "{0}/{0}", "12:{:02}", "+{}x", "{}.", "1,2,{}"]
)
def test_texts_that_hold_digits_are_texts(form: str) -> None:
    assert of_training(*(form.format(number) for number in range(ROWS))) == []


def test_a_few_codes_are_categories_however_they_are_written() -> None:
    assert of_training(*(f"{number % 4},5" for number in range(ROWS))) == []


def of_prediction(columns: list[Column], *values: object) -> list[str]:
    return doubts.of_prediction(pd.DataFrame({"a": list(values)}), columns)


def test_values_that_the_model_never_saw_are_named() -> None:
    seen = [Column("a", "category", ("blue", "red"))]
    assert of_prediction(seen, "red", None, "blue") == []
    (doubt,) = of_prediction(seen, "red", "Red", "purple", "Red")
    assert doubt == (
        "column 'a' holds values in 3 rows that were not in training ('Red', 'purple'): the model knows nothing of them"
    )
    assert of_prediction([Column("a", "category")], "purple") == []  # of too many values, none was noted


def test_dates_that_the_model_cannot_read_are_named() -> None:
    assert of_prediction([Column("a", "date")], "2026-01-31", "2026-01-31T10:00:00Z", None) == []
    (doubt,) = of_prediction([Column("a", "date")], "2026-01-31", "31.01.2026")
    assert doubt == (
        "column 'a' holds dates like 2026-01-31 in training, and something else in 1 rows here ('31.01.2026'), which "
        "counts as missing"
    )


def test_the_values_of_a_category_are_kept_up_to_a_bound() -> None:
    def values(count: int) -> tuple[str, ...]:
        (column,) = frames.infer_columns(pd.DataFrame({"a": [f"v{number:04}" for number in range(count)]}), ())
        return column.values

    assert len(values(MAX_VALUES)) == MAX_VALUES
    assert values(MAX_VALUES + 1) == ()
