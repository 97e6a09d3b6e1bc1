from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError
from trainyard_trainer_worker.training import datasets, frames
from trainyard_trainer_worker.training.frames import Column


def mixed_row(i: int) -> str:
    return f"{i}.5,{'True' if i % 2 else ''},w{i % 3},2024-01-{i + 1:02d},,{'yes' if i % 2 else 'no'}\n"


MIXED = datasets.parse_csv(("n,flag,word,day,gap,y\n" + "".join(map(mixed_row, range(20)))).encode())


def test_the_kinds_of_columns_are_found_and_empty_ones_left_out() -> None:
    columns = frames.infer_columns(MIXED, ["y"])
    assert columns == (
        Column("n", "number"),
        Column("flag", "number"),
        Column("word", "category", ("w0", "w1", "w2")),
        Column("day", "date"),
    )


def test_numbers_with_some_dirt_are_numbers_and_codes_are_not() -> None:
    rows = "".join(
        f"{i}.5,{'?' if i % 40 == 0 else i},{'A' if i % 10 == 0 else ''}{i:03d},{i % 9 or '-'}\n" for i in range(200)
    )
    table = datasets.parse_csv(f"clean,dirty,code,few\n{rows}".encode())
    columns = frames.infer_columns(table, [])
    assert [column.kind for column in columns] == ["number", "number", "category", "category"]
    assert frames.texts_among_numbers(table, columns) == [("dirty", 5, ["?"])]
    assert int(frames.to_features(table, columns)["dirty"].isna().sum()) == 5


@pytest.mark.parametrize(
    "rows", ["007,true\n012,false\n", "007,true\n012,false\nA1,maybe\n", "007,true\n012,false\n,\n"]
)
def test_text_is_read_as_it_is_written_whatever_stands_beside_it(rows: str) -> None:
    columns = (Column("code", "category"), Column("flag", "category"))
    table = datasets.parse_csv(f"code,flag\n{rows}".encode(), texts=["code", "flag", "absent"])
    features = frames.to_features(table, columns)
    assert features.iloc[:2].to_dict("list") == {"code": ["007", "012"], "flag": ["true", "false"]}


def test_true_and_false_are_one_and_zero_also_beside_text() -> None:
    table = datasets.parse_csv(b"flag\ntrue\nFALSE\nmaybe\n")
    assert frames.to_features(table, (Column("flag", "number"),))["flag"].tolist()[:2] == [1.0, 0.0]


def test_features_survive_json_exactly() -> None:
    columns = frames.infer_columns(MIXED, ["y"])
    features = frames.to_features(MIXED, columns)
    features.loc[0, "n"] = 0.1 + 0.2
    rows = json.loads(json.dumps(frames.to_records(features), allow_nan=False))
    pd.testing.assert_frame_equal(frames.from_records(rows, columns), features)


def test_infinities_count_as_missing() -> None:
    features = frames.to_features(pd.DataFrame({"n": [1.0, np.inf, -np.inf]}), [Column("n", "number")])
    assert features["n"].isna().tolist() == [False, True, True]


def test_numbers_beyond_float32_are_cut_to_its_range() -> None:
    features = frames.to_features(pd.DataFrame({"n": [1e300, -1e300, 1e38]}), [Column("n", "number")])
    assert np.isfinite(features["n"].to_numpy().astype(np.float32)).all()
    assert features["n"].iloc[2] == 1e38


def test_classes_are_sorted_and_rows_without_a_label_are_dropped() -> None:
    frame = pd.DataFrame({"y": ["b", "a", None, "b"] * 5})
    target = frames.make_target(frame, "y", "classification")
    assert target.classes == ("a", "b")
    assert target.values[:3].tolist() == [1, 0, 1]
    assert target.rows[:3].tolist() == [0, 1, 3]
    assert target.dropped_rows == 5


def test_whole_numbers_with_gaps_stay_whole_as_classes() -> None:
    frame = pd.DataFrame({"y": [0.0, 1.0, np.nan, 2.0] * 5})
    assert frames.make_target(frame, "y", "classification").classes == (0, 1, 2)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["1e300", "2e300"], (1e300, 2e300)),
        (["18446744073709551615", "18446744073709551614"], ("18446744073709551614", "18446744073709551615")),
        (["1.5", "inf", "2.5", "-inf"], (1.5, 2.5)),
        (["9" * 400, "8" * 400], ("8" * 400, "9" * 400)),
    ],
    ids=["large floats", "64 bits unsigned", "infinite", "400 digits"],
)
def test_classes_are_what_an_event_can_hold(labels: list[str], classes: tuple[object, ...]) -> None:
    frame = datasets.parse_csv(("a,y\n" + "".join(f"{i},{labels[i % len(labels)]}\n" for i in range(60))).encode())
    assert frames.make_target(frame, "y", "classification").classes == classes


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["1", "2"], (1, 2)),
        (["1", "2", ""], (1, 2)),
        (["-1", "0"], (-1, 0)),
        (["+1", "-1"], (-1, 1)),
        (["yes", "yes ", " no", "no"], ("no", "yes")),
        (["01", "02"], ("01", "02")),
        (["1.0", "2.0"], ("1.0", "2.0")),
        (["1", "1.0", "2"], (1, 2)),
        (["1.5", "2.25"], (1.5, 2.25)),
        (["true", "false"], ("false", "true")),
        (["True", "False"], (False, True)),
        (["true", "TRUE", "False"], (False, True)),
        (["no", "yes"], ("no", "yes")),
        (["100000000000000301", "100000000000000300", ""], ("100000000000000300", "100000000000000301")),
    ],
)
def test_classes_go_by_what_the_file_says(written: list[str], classes: tuple[object, ...]) -> None:
    rows = "".join(f"{i},{written[i % len(written)]}\n" for i in range(12 * len(written)))
    table = datasets.parse_csv(f"x,y\n{rows}".encode(), texts=["y"])
    target = frames.make_target(table, "y", "classification")
    assert target.classes == classes
    assert [type(found) for found in target.classes] == [type(expected) for expected in classes]


def test_numbers_in_a_label_are_a_regressions_whether_read_as_text_or_not() -> None:
    content = ("x,y\n" + "".join(f"{i},{i / 7:.3f}\n" for i in range(60)) + "60,\n").encode()
    as_text = frames.make_target(datasets.parse_csv(content, texts=["y"]), "y", None)
    as_numbers = frames.make_target(datasets.parse_csv(content), "y", None)
    assert as_text.task_type == as_numbers.task_type == "regression"
    assert as_text.values.tolist() == as_numbers.values.tolist()
    assert as_text.dropped_rows == 1


def test_the_task_follows_the_label_where_none_is_asked() -> None:
    assert frames.make_target(pd.DataFrame({"y": np.linspace(0, 1, 30)}), "y", None).task_type == "regression"
    assert frames.make_target(pd.DataFrame({"y": [0, 1] * 15}), "y", None).task_type == "classification"


@pytest.mark.parametrize(
    ("values", "task", "detail", "says"),
    [
        ([1] * 20, "classification", "one_class", "1"),
        ([1.5] * 20, "regression", "one_class", "1.5"),
        (["x", "y"] * 2, "classification", "too_few_rows", "4 rows"),
        ([None] * 20, "classification", "too_few_rows", "0 rows"),
        (["1", "2", "many"] * 10, "regression", "label_not_numeric", "'many'"),
        (list(range(100)), "classification", "too_many_classes", "100 classes"),
        ([0, 1] * 10, "detection", "field_invalid", "'detection'"),
    ],
)
def test_a_label_that_cannot_be_learned_is_refused_with_what_there_is(
    values: list[object], task: str, detail: str, says: str
) -> None:
    with pytest.raises(AttemptError) as caught:
        frames.make_target(pd.DataFrame({"y": values}), "y", task)
    assert caught.value.detail == detail
    assert says in caught.value.message


def test_a_missing_label_column_lists_the_columns_there_are() -> None:
    with pytest.raises(AttemptError) as caught:
        frames.make_target(MIXED, "cultivar", None)
    assert caught.value.detail == "label_missing"
    assert "'word', 'day'" in caught.value.message


def test_a_table_with_nothing_but_the_label_has_no_features() -> None:
    with pytest.raises(AttemptError) as caught:
        frames.infer_columns(pd.DataFrame({"y": [1, 2], "empty": [None, None]}), ["y"])
    assert caught.value.detail == "no_features"


TOKENS = ["\n", ",", '"', "nan", "inf", "1e999", "9" * 400, "\ufeff", "2020-13-45", "True", "\x1b[0m", "é", ";;", "\t",
          "NULL", "99999999999999999999", "9999-12-31T23:59:59Z", "0001-01-01", "\u202e", "\x00"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2_000), st.sampled_from(TOKENS)), max_size=8), st.integers(0, 300))
def test_a_table_spoiled_anywhere_is_read_or_refused_with_a_reason(spoils: list[tuple[int, str]], cut: int) -> None:
    text = "n,flag,word,day,gap,y\n" + "".join(map(mixed_row, range(20)))
    for at, token in spoils:
        text = text[:at] + token + text[at:]
    try:
        table = datasets.parse_csv(text[: len(text) - cut].encode())
        target = frames.make_target(table, str(table.columns[-1]), None)
        columns = frames.infer_columns(table.iloc[target.rows], [str(table.columns[-1])])
        refusal = None
    except AttemptError as error:
        refusal = error.message
    if refusal is not None:
        assert refusal.isascii(), "foreign text must be escaped in a message"
        assert "\n" not in refusal
        return
    features = frames.to_features(table, columns)
    rows = json.loads(json.dumps(frames.to_records(features), allow_nan=False))
    pd.testing.assert_frame_equal(frames.from_records(rows, columns), features)


def test_labels_whose_squares_are_infinite_are_refused() -> None:
    table = pd.DataFrame({"y": [1e308, -1e308, *range(30)]})
    with pytest.raises(AttemptError, match="label out of range") as caught:
        frames.make_target(table, "y", "regression")
    assert (caught.value.reason, caught.value.detail) == (Reason.INVALID_DATASET, "label_out_of_range")


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_dates_at_the_ends_of_the_calendar_are_days_like_others_or_missing(day: str) -> None:
    from trainyard_trainer_worker.trainers.features import build_features

    days = build_features([Column("d", "date")], scale=False).fit_transform(pd.DataFrame({"d": [day, "1970-01-02"]}))
    if int(pd.__version__.partition(".")[0]) < 3:  # nanoseconds in 64 bits end in 1677 and 2262
        assert days.tolist() == [[1.0, 1.0], [1.0, 0.0]], "the other row's day, and a mark that it was missing"
    else:
        assert days[:, 0].tolist() == [{"0001-01-01": -719_162.0, "9999-12-31": 2_932_896.0}[day], 1.0]
