from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.timing import in_time
from trainyard_trainer_worker.spec import AttemptError
from trainyard_trainer_worker.training import splits

SIZES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, (1 << 32) - 1)


@settings(max_examples=200, deadline=None)
@given(groups=st.lists(st.integers(0, 15), min_size=2, max_size=80), size=SIZES, seed=SEEDS)
def test_no_group_is_ever_in_both_parts(groups: list[int], size: float, seed: int) -> None:
    codes = np.array(groups, dtype=np.int64)
    if len(set(groups)) < 2:
        return
    split = splits.group_shuffle(np.arange(len(codes)), codes, size, seed, None, "g")
    assert not set(codes[split.train]) & set(codes[split.test])
    assert sorted([*split.train, *split.test]) == list(range(len(codes)))
    assert len(split.train) > 0
    assert len(split.test) > 0
    assert split.proof()["overlap"] == 0
    assert split.groups_train is not None
    assert split.groups_train + (split.groups_test or 0) == len(set(groups))


@settings(max_examples=200, deadline=None)
@given(classes=st.lists(st.integers(0, 5), min_size=10, max_size=120), size=SIZES, seed=SEEDS)
def test_row_shuffle_partitions_the_rows_and_trains_on_every_class(classes: list[int], size: float, seed: int) -> None:
    codes = np.unique(classes, return_inverse=True)[1].astype(np.int64)
    split = splits.row_shuffle(np.arange(len(codes)), size, seed, codes)
    assert sorted([*split.train, *split.test]) == list(range(len(codes)))
    assert len(split.train) > 0
    assert len(split.test) == min(max(1, int(np.ceil(size * len(codes)))), len(codes) - 1)
    if split.stratified:
        assert set(codes[split.train]) == set(codes)


def test_stratification_keeps_each_classs_share() -> None:
    codes = np.array([0] * 80 + [1] * 20, dtype=np.int64)
    split = splits.row_shuffle(np.arange(100), 0.2, 7, codes)
    assert np.bincount(codes[split.test]).tolist() == [16, 4]


def test_a_rare_class_is_held_out_once_where_there_is_room() -> None:
    codes = np.array([0] * 298 + [1] * 2, dtype=np.int64)
    split = splits.row_shuffle(np.arange(300), 0.2, 42, codes)
    assert np.bincount(codes[split.test]).tolist() == [59, 1]
    alone = splits.row_shuffle(np.arange(299), 0.2, 42, codes[:299])
    assert np.bincount(codes[alone.test], minlength=2).tolist() == [60, 0], "the only row of a class is trained on"


@pytest.mark.timed
def test_many_classes_are_stratified_in_time_that_grows_with_the_rows() -> None:
    codes = np.arange(200_000, dtype=np.int64) % 50_000
    started = time.monotonic()
    split = splits.row_shuffle(np.arange(200_000), 0.25, 1, codes)
    in_time(5, time.monotonic() - started)  # a pass over the rows for each class would take minutes
    assert np.bincount(codes[split.test]).tolist() == [1] * 50_000


def test_the_same_seed_gives_the_same_hash_and_another_seed_another() -> None:
    rows = np.arange(50)
    assert splits.row_shuffle(rows, 0.2, 1, None).sha256 == splits.row_shuffle(rows, 0.2, 1, None).sha256
    assert splits.row_shuffle(rows, 0.2, 1, None).sha256 != splits.row_shuffle(rows, 0.2, 2, None).sha256


def test_the_hash_of_a_seed_never_changes_between_versions() -> None:
    # Written down when the format was made: a change here breaks the comparison with every recorded run.
    assert splits.row_shuffle(np.arange(10), 0.2, 42, None).test.tolist() == [1, 8]
    expected = "113731664c202279b4b87e43b9260b143f6e0376c6cc6febf498cc442c0fb7bf"
    assert splits.row_shuffle(np.arange(10), 0.2, 42, None).sha256 == expected


def test_the_hash_names_rows_of_the_source_not_of_what_was_left() -> None:
    kept = np.arange(50)
    assert splits.row_shuffle(kept, 0.2, 1, None).sha256 != splits.row_shuffle(kept + 1, 0.2, 1, None).sha256


def test_several_group_keys_combine_and_missing_values_are_one_group() -> None:
    frame = pd.DataFrame({"a": ["x", "x", "y", None, None, "x"], "b": [1, 2, 1, 1, 1, 1]})
    codes = splits.group_codes(frame, ["a", "b"])
    assert codes[0] == codes[5]
    assert codes[3] == codes[4]
    assert len(set(codes.tolist())) == 4


def test_a_group_key_that_is_no_column_is_named_with_the_columns_there_are() -> None:
    with pytest.raises(AttemptError, match=r"'user_id'.*'a'") as caught:
        splits.group_codes(pd.DataFrame({"a": [1]}), ["user_id"])
    assert caught.value.detail == "group_key_missing"


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(AttemptError) as caught:
        splits.group_shuffle(np.arange(5), np.zeros(5, dtype=np.int64), 0.2, 1, None, "g")
    assert caught.value.detail == "too_few_groups"


def test_draws_that_leave_a_class_out_of_training_are_passed_over() -> None:
    groups = np.repeat(np.arange(6), 4)
    classes = np.where(groups == 0, 1, 0).astype(np.int64)
    classes[20] = 1  # group 5 holds the other row of class 1
    for seed in range(30):
        split = splits.group_shuffle(np.arange(24), groups, 0.3, seed, classes, "g")
        assert set(classes[split.train]) == {0, 1}
        assert not set(groups[split.train]) & set(groups[split.test])


def test_classes_that_are_the_groups_cannot_be_learned() -> None:
    groups = np.repeat(np.arange(2), 5)
    with pytest.raises(AttemptError) as caught:
        splits.group_shuffle(np.arange(10), groups, 0.5, 1, groups, "g")
    assert caught.value.detail == "one_class"
