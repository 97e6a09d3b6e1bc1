"""Which task and metric a label column asks for, and what is no label."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from trainyard_schemas.trainers import TRAINERS
from trainyard_schemas.upcasting import parse_request
from trainyard_submitter.errors import InvalidRequest
from trainyard_submitter.inference import MISSING, LabelColumn, TaskType, group_columns, infer, label_index
from trainyard_submitter.training_request import Wish, numbers_known, run_name, trainer_known, training_request

ROOT = Path(__file__).parents[3]


def column(values: Sequence[object], name: str = "y") -> LabelColumn:
    made = LabelColumn(name)
    made.add(str(value) for value in values)
    return made


@pytest.mark.parametrize(
    ("values", "task_type"),
    [
        (["cat", "dog"] * 20, "classification"),
        ([0, 1] * 20, "classification"),
        ([0.5, 1.5] * 20, "classification"),
        (["true", "false"] * 20, "classification"),
        ([1, 2, 3] * 20, "classification"),
        (["1.0", "2.0", "3.0"] * 20, "classification"),  # whole numbers in a column with gaps
        ([0.25, 0.5, 0.75] * 20, "regression"),  # few values, but distances mean something
        ([i * 7 % 1_000 for i in range(100)], "regression"),
        ([i / 3 for i in range(100)], "regression"),
        (["5"] * 5 + [f"{i}e1" for i in range(40)], "regression"),
        (["a", "b", "7"] * 20, "classification"),
    ],
)
def test_the_task_follows_from_the_values(values: Sequence[object], task_type: TaskType) -> None:
    assert infer(column(values)).task_type == task_type


def test_the_reason_is_one_sentence_that_names_the_values() -> None:
    assert infer(column(["yes", "no"] * 10)).sentence == (
        "This is classification: 'y' holds text with 2 different values (yes, no); models are compared by accuracy, the"
        " share of right answers."
    )


def test_one_class_that_dominates_asks_for_a_metric_that_it_cannot_please() -> None:
    found = infer(column(["no"] * 90 + ["yes"] * 10))
    assert found.metric == "balanced_accuracy"
    assert "90% of the rows are 'no'" in found.sentence


def test_missing_labels_are_counted_and_warned_of() -> None:
    found = infer(column([*(["a", "b"] * 10), "", "NA", "nan", " "]))
    assert found.warnings == ("4 of 24 rows have no 'y' ('NA', 'nan' count as missing) and are left out",)
    assert found.task_type == "classification"
    assert infer(column([*(["a", "b"] * 10), "", " "])).warnings == ("2 of 22 rows have no 'y' and are left out",)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ["None", "Some"] * 20,
            "every row with a value has the same value 'Some' in 'y' ('None' counts as missing)",
        ),
        (["", "Some"] * 20, "every row with a value has the same value 'Some' in 'y'; there is nothing to learn"),
        (["Some"] * 20, "every row has the same value 'Some' in 'y'; there is nothing to learn"),
        (
            ["None", "NA", "n/a", "null"] * 5,
            "holds no value in any row ('None', 'NA', 'n/a', ... count as missing)",
        ),
        ([*(["None"] * 20), "Mild", "Bad"], "2 rows have a value in 'y' ('None' counts as missing); at least 10"),
    ],
)
def test_a_text_that_counts_as_missing_is_named(values: Sequence[object], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        infer(column(values))
    assert said in str(refused.value)


def test_the_list_of_missing_values_is_the_workers_and_is_documented() -> None:
    documented = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    assert all(f"`{text}`" in documented for text in MISSING if text)
    table = pd.read_csv(io.StringIO("y\n" + "\n".join(sorted(MISSING - {""}))), skip_blank_lines=False)
    assert table["y"].isna().all()


@pytest.mark.parametrize(
    ("values", "detail"),
    [
        (range(1, 101), "label_is_id"),
        ([f"u{i:03}" for i in range(100)], "label_is_id"),
        ([f"2026-01-{i % 28 + 1:02}" for i in range(100)], "label_is_date"),
        (["same"] * 50, "one_class"),
        (["", "NA"] * 50, "too_few_rows"),
        (["a", "b"] * 3, "too_few_rows"),
        ([*(str(i / 7) for i in range(100)), "?", "unknown"], "label_not_numeric"),
        ([f"t{i % 70}" for i in range(100)], "too_many_classes"),
    ],
)
def test_what_is_no_label_is_refused_with_its_own_code(values: Sequence[object], detail: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        infer(column(values))
    assert refused.value.detail == detail


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["17,5", "0,5", "3,25"] * 20, "commas (17,5, 0,5): write them with a point (17.5)"),
        ([f"{i},{i % 10}" for i in range(100)], "commas (0,0, 1,1): write them with a point (0.0)"),
        (["-,5", "1.234,50", "2,5"] * 20, "commas (-,5, 1.234,50): write them with a point (-0.5)"),
        ([*(["1.234,50", "2,25"] * 10), *range(18)], "commas (1.234,50, 2,25): write them with a point (1234.50)"),
        (["1,234", "17,5", "5"] * 20, "commas (17,5): write them with a point (17.5)"),
        (["1,234", "2,500.75", "950"] * 20, "separators of thousands (1,234, 2,500.75): write them without (1234)"),
        (["12 345", "1\u202f000", "7"] * 9, "separators of thousands (12 345, 1?000): write them without (12345)"),
        (["1.234.567", "-2.000.000", "3"] * 9, "separators of thousands (1.234.567, -2.000.000): write them without"),
        (["-$1,234.50", "$5", "$6"] * 9, "separators of thousands (-$1,234.50): write them without (-1234.50)"),
        (["$5", "€ 6.50", "7 £"] * 9, "currency signs ($5, € 6.50): write them without (5)"),
        (["30 %", "2.5%", "-1%"] * 9, "percent signs (30 %, 2.5%): write them without (30)"),
        ([*(f"{i},5" for i in range(96)), *"abcd"], "commas (0,5, 1,5): write them with a point (0.5)"),
    ],
)
def test_numbers_that_are_written_in_another_way_are_no_classes(values: Sequence[object], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        infer(column(values))
    assert str(refused.value).startswith(f"--label: 'y' looks like numbers written with {said}")
    assert str(refused.value).endswith("), or say --task classification")
    assert refused.value.detail == "label_not_numeric"
    assert infer(column(values), task_type="classification").task_type == "classification"
    with pytest.raises(InvalidRequest, match=r"looks like numbers written with .*\)$"):
        infer(column(values), task_type="regression")


@pytest.mark.parametrize(
    "values",
    [
        ["0,5", "1,5"] * 20,  # two values are two classes, however they are written
        ["1", "2", "3", "1,2,3", "1,2"] * 9 + ["a", "b"] * 5,
        [*([1, 2, 3] * 30), "1,2"],
        ["1.2.3", "1.2.4", "2.0.0"] * 9,
        ["1-2", "3-4", "5+"] * 9,
        ["$", "$$", "$$$"] * 9,
        ["<=50K", ">50K", "50K"] * 9,
        ["12,", ",", "1,,5"] * 9,
    ],
)
def test_what_only_resembles_numbers_stays_text(values: Sequence[object]) -> None:
    assert infer(column(values)).task_type == "classification"


def test_what_the_caller_names_holds() -> None:
    found = infer(column([1, 2, 3] * 20), task_type="regression", metric="mae")
    assert (found.task_type, found.metric) == ("regression", "mae")
    assert infer(column(range(1, 101)), task_type="regression").task_type == "regression"
    with pytest.raises(InvalidRequest, match="regression needs numbers in 'y', and 20 rows hold text such as 'a'"):
        infer(column([*(["a"] * 20), *range(20)]), task_type="regression")


def test_a_wrong_name_gets_the_nearest_column() -> None:
    assert label_index(["a", "Price"], "Price") == 1
    with pytest.raises(InvalidRequest, match="Did you mean 'Price'"):
        label_index(["a", "Price"], "price")
    with pytest.raises(InvalidRequest, match="Did you mean 'user_id'"):
        group_columns(["user_id", "y"], ["userid"], "y")
    with pytest.raises(InvalidRequest, match="is the label"):
        group_columns(["user_id", "y"], ["y"], "y")


def test_every_inferred_metric_is_legal_for_every_trainer_of_tables() -> None:
    for values in (["a", "b"] * 20, ["a"] * 90 + ["b"] * 10, [i / 3 for i in range(100)]):
        found = infer(column(values))
        for trainer in TRAINERS.values():
            if "tabular" in trainer.dataset_types:
                assert found.metric in trainer.metrics[found.task_type]


def test_the_request_says_what_was_asked_for_and_nothing_else() -> None:
    wish = Wish("y", "flaml", 60.0, groups=("user",), seed=7, priority=9, queue="gpu")
    request = training_request(wish, stem="my data", uri="http://files/x.csv", task_type="regression", metric="rmse")
    assert request == {
        "schema_version": 2,
        "trainer": "flaml",
        "run_name": "my-data.y.flaml",
        "dataset": {"type": "tabular", "uri": "http://files/x.csv", "label": "y"},
        "task_type": "regression",
        "metric": "rmse",
        "time_budget_s": 60.0,
        "group_key": ["user"],
        "split": {"method": "group_shuffle", "random_seed": 7},
        "queue": "gpu",
        "priority": 9,
    }
    parse_request(request)


@pytest.mark.parametrize("stem", ["", "ü<b>", "x" * 400, "../..", "a\u202eb"])
def test_any_file_name_makes_a_name_that_intake_takes(stem: str) -> None:
    wish = Wish("y\u202e<script>", "sklearn", 60.0)
    request = training_request(wish, stem=stem, uri="a.csv", task_type="regression", metric="rmse")
    parse_request({**request, "dataset": {**request["dataset"], "label": "y"}})
    assert len(run_name(stem, "y", "sklearn")) >= 3


@pytest.mark.parametrize("test_size", [float("nan"), float("inf"), -float("inf"), -0.1, 0.0, 1.0, 20.0])
def test_a_share_that_is_none_is_named_by_its_option(test_size: float) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^--test-size: .* is no share of the rows; give a number between 0 and 1"
    ):
        numbers_known(Wish("y", "flaml", 60.0, test_size=test_size))
    numbers_known(Wish("y", "flaml", 60.0, test_size=0.2))


@pytest.mark.parametrize("time_s", [float("nan"), float("inf")])
def test_a_time_without_end_is_named_by_its_option(time_s: float) -> None:
    with pytest.raises(InvalidRequest, match=r"^--time: .* is no time; give a number of seconds"):
        numbers_known(Wish("y", "flaml", time_s))


def test_a_trainer_of_no_tables_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="use one of autogluon, flaml, sklearn"):
        trainer_known("ultralytics")
