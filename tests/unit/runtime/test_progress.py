"""The watch over consumers that stand still."""

from __future__ import annotations

from trainyard_runtime.kafka.progress import ProgressWatch, lag

A, B = ("t", 0), ("t", 1)


def test_behind_and_not_moving_for_too_long_is_stuck() -> None:
    watch = ProgressWatch(limit_s=60)
    assert watch.stuck({A: 5, B: 5}, {A: 9, B: 5}, now=0) == []
    assert watch.stuck({A: 5, B: 5}, {A: 20, B: 5}, now=60) == []
    assert watch.stuck({A: 5, B: 5}, {A: 20, B: 5}, now=61) == [A]


def test_one_step_forward_starts_the_time_anew() -> None:
    watch = ProgressWatch(limit_s=60)
    watch.stuck({A: 5}, {A: 9}, now=0)
    assert watch.stuck({A: 6}, {A: 9}, now=59) == []
    assert watch.stuck({A: 6}, {A: 9}, now=100) == []
    assert watch.stuck({A: 6}, {A: 9}, now=120) == [A]


def test_a_partition_that_is_not_ours_any_more_or_has_no_answer_is_forgotten() -> None:
    watch = ProgressWatch(limit_s=60)
    watch.stuck({A: 5}, {A: 9}, now=0)
    assert watch.stuck({}, {A: 9}, now=50) == []
    assert watch.stuck({A: 5}, {A: 9}, now=100) == []
    assert watch.stuck({A: 5}, {}, now=200) == []
    assert watch.stuck({A: 5}, {A: 9}, now=300) == []


def test_the_end_is_no_place_to_be_stuck_at() -> None:
    watch = ProgressWatch(limit_s=60)
    assert watch.stuck({A: 9}, {A: 9}, now=0) == []
    assert watch.stuck({A: 9}, {A: 9}, now=1_000) == []


def test_the_lag_is_the_sum_over_the_partitions_that_answered() -> None:
    assert lag({A: 5, B: 2}, {A: 9}) == 4
    assert lag({A: 5, B: 2}, {A: 4, B: 4}) == 2
