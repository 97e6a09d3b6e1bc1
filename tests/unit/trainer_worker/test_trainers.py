from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from tests.timing import in_time
from trainyard_schemas.trainers import TRAINERS
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker import trainers
from trainyard_trainer_worker.spec import AttemptError
from trainyard_trainer_worker.trainers.base import FitTask
from trainyard_trainer_worker.trainers.sklearn import is_spent, next_iterations, next_size
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.evaluation import METRICS
from trainyard_trainer_worker.training.frames import Column, Ints


def test_every_adapter_is_for_a_trainer_that_requests_may_name() -> None:
    assert set(trainers.available()) <= set(TRAINERS)
    for name in trainers.available():
        assert trainers.load(name).name == name


def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "trainyard_trainer_worker.trainers.flaml", raising=False)
    monkeypatch.setitem(sys.modules, "flaml", None)
    with pytest.raises(AttemptError) as caught:
        trainers.load("flaml")
    assert (caught.value.reason, caught.value.detail) == (Reason.TRAINER_ERROR, "trainer_not_installed")
    assert "pip install 'trainyard-trainer-worker[flaml]'" in caught.value.message


def task(extras: dict[str, Any], groups: Ints | None = None, n_classes: int = 2) -> FitTask:
    target = np.arange(20) % 2 if n_classes else np.linspace(0.0, 1.0, 20)
    metric = METRICS["balanced_accuracy" if n_classes else "rmse"]
    return FitTask(
        pd.DataFrame({"x": np.arange(20.0)}), target, (Column("x", "number"),), n_classes, groups, metric, 3.0, 7, 2,
        extras, Path(),
    )  # fmt: skip


def flaml_settings(
    extras: dict[str, Any], groups: Ints | None = None, n_classes: int = 2
) -> tuple[Any, str, list[str]]:
    from trainyard_trainer_worker.trainers.flaml import fit_settings

    emitter = Emitter(None)
    settings, log_name = fit_settings(task(extras, groups, n_classes), emitter)
    return settings, log_name, emitter.warnings


def test_flaml_gets_group_cross_validation_where_groups_are_held_out() -> None:
    groups = np.arange(20, dtype=np.int64) // 7
    for_numbers, _, _ = flaml_settings({}, groups, n_classes=0)
    assert (for_numbers["split_type"], for_numbers["eval_method"], for_numbers["n_splits"]) == ("group", "cv", 3)
    assert for_numbers["groups"] is groups
    for_classes, _, _ = flaml_settings({}, groups)
    assert (for_classes["eval_method"], for_classes["n_splits"]) == ("cv", 3)
    assert "split_type" not in flaml_settings({})[0]


def test_whole_groups_are_validated_on_and_every_class_is_always_trained_on() -> None:
    from trainyard_trainer_worker.trainers.group_folds import covering_folds

    groups = np.repeat(np.arange(6), 4)
    target = np.where(groups == 2, 2, np.arange(24) % 2)  # one group holds all of class 2
    folds = covering_folds(groups, target, 3).folds
    assert len(folds) == 3
    for trained, validated in folds:
        assert set(groups[trained]).isdisjoint(groups[validated])
        assert set(target[trained]) == {0, 1, 2}
        assert len(trained) + len(validated) == 24
    assert {int(group) for _, validated in folds for group in groups[validated]} == {0, 1, 3, 4, 5}
    assert covering_folds(groups, groups, 3).folds == [], "each group is a class"


@pytest.mark.parametrize("n_splits", [-1, 0, 1, 21, 10**6])
def test_flaml_is_not_asked_for_folds_that_cannot_be(n_splits: int) -> None:
    with pytest.raises(AttemptError, match="n_splits must be 2 to 20"):
        flaml_settings({"fit_args": {"n_splits": n_splits}})


def test_flaml_stops_early_or_not_and_nothing_between() -> None:
    with pytest.raises(AttemptError, match="early_stop must be true or false"):
        flaml_settings({"fit_args": {"early_stop": "no"}})


def test_flaml_never_runs_with_one_trial_or_without_a_budget() -> None:
    settings, _, warned = flaml_settings({"fit_args": {"max_iter": 1}})
    assert settings["max_iter"] == 2
    assert any("max_iter was raised" in warning for warning in warned)
    assert settings["time_budget"] == 3.0


def test_flaml_fits_the_best_model_on_all_rows_within_the_budget_or_after_a_search_that_ended_early() -> None:
    assert flaml_settings({})[0]["retrain_full"] == "budget"
    assert "retrain_full" not in flaml_settings({"fit_args": {"max_iter": 5}})[0]
    assert "retrain_full" not in flaml_settings({"fit_args": {"early_stop": True}})[0]


def test_flaml_judges_the_trials_on_few_rows_by_cross_validation_at_any_budget() -> None:
    assert flaml_settings({})[0]["eval_method"] == "cv"


@dataclass(frozen=True)
class Tried:
    """What FLAML answers as the best model of an estimator."""

    estimator: RandomForestClassifier


@pytest.mark.parametrize(("trees", "kept", "warned"), [(4, 5, True), (5, 5, False), (6, 6, False)])
def test_a_model_that_lost_trees_to_the_budget_gives_way_to_the_one_of_its_trial(
    trees: int, kept: int, warned: bool
) -> None:
    from trainyard_trainer_worker.trainers.flaml import _whole

    emitter = Emitter(None)
    final, tried = RandomForestClassifier(trees), Tried(RandomForestClassifier(5))
    assert _whole(final, tried, emitter).n_estimators == kept
    assert bool(emitter.warnings) is warned
    assert _whole(final, None, emitter) is final


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (None, "flaml.log"),
        ("mine.log", "mine.log"),
        ("../../etc/cron.d/evil", "evil.log"),
        ("..", "flaml.log"),
        ("outcome.json", "outcome.json.log"),
        ("a b\n.log", "a_b_.log"),
        ("C:\\logs\\x.log", "x.log"),
    ],
)
def test_flamls_log_stays_in_the_work_folder_under_a_plain_name(asked: str | None, name: str) -> None:
    assert flaml_settings({"fit_args": {"log_file_name": asked}})[1] == name


@pytest.mark.parametrize(
    ("fit_args", "says"),
    [
        ({"estimator_list": ["lgbm", "catboost"]}, "ignores the time budget"),
        ({"estimator_list": "lgbm"}, "must be a list"),
        ({"estimator_list": []}, "must be a list"),
        ({"max_iter": "many"}, "max_iter must be an integer"),
        ({"n_splits": True}, "n_splits must be an integer"),
    ],
)
def test_what_flaml_cannot_take_is_refused_with_the_field(fit_args: dict[str, Any], says: str) -> None:
    with pytest.raises(AttemptError, match=says) as caught:
        flaml_settings({"fit_args": fit_args})
    assert caught.value.message.startswith("extras.flaml.fit_args.")


def test_a_classifier_is_not_offered_for_regression() -> None:
    with pytest.raises(AttemptError, match="'lrl1', which is not offered"):
        flaml_settings({"fit_args": {"estimator_list": ["lrl1"]}}, n_classes=0)


def test_settings_that_are_not_passed_on_are_told() -> None:
    _, _, warned = flaml_settings({"fit_args": {"ensemble": True}, "colour": "red"})
    assert len(warned) == 2
    assert all("was ignored" in warning for warning in warned)


@pytest.mark.parametrize(
    ("extras", "says"),
    [
        ({"estimator": "random_forest", "params": {"max_depth": "deep"}}, "max_depth"),
        ({"estimator": "logreg", "params": {"C": "much"}}, "'C'"),
        ({"estimator": "random_forest", "params": {"bootstrap": False, "max_samples": 0.5}}, "bootstrap"),
        ({"estimator": "logreg", "params": {"colour": 1}}, "colour"),
    ],
)
def test_settings_that_scikit_learn_refuses_are_the_requests_fault(extras: dict[str, Any], says: str) -> None:
    with pytest.raises(AttemptError, match=r"extras\.sklearn\.params") as caught:
        trainers.load("sklearn").fit(task(extras), Emitter(None))
    assert (caught.value.reason, caught.value.detail) == (Reason.INVALID_REQUEST, "field_invalid")
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("size", "total", "spent_s", "expected"),
    [
        (0, 100, 0.0, 1),  # the speed is not known yet
        (0, 100_000, 0.0, 1),
        (0, 5, 0.0, 1),
        (10, 100, 0.1, 20),  # plenty of time: a tenth more
        (95, 100, 0.1, 100),
        (100, 100_000, 10.0, 200),  # 20 s left at 10 trees a second: half of them
        (299, 100_000, 29.9, 300),  # one at least: the caller looks at the time after each
    ],
)
def test_an_ensemble_grows_no_further_than_the_time_left_allows(
    size: int, total: int, spent_s: float, expected: int
) -> None:
    assert next_size(size, total, spent_s, budget_s=30.0) == expected


@pytest.mark.parametrize(
    ("done", "total", "spent_s", "expected"),
    [
        (0, 1_000, 0.0, 10),
        (0, 3, 0.0, 3),
        (10, 1_000, 0.1, 10),  # plenty of time: as many again
        (320, 1_000, 0.1, 320),
        (640, 1_000, 0.1, 360),
        (100, 100_000, 10.0, 100),
        (100, 100_000, 25.0, 10),  # 5 s left at 4 iterations a second: half of them
        (100, 100_000, 31.0, 1),
    ],
)
def test_a_solver_goes_on_no_further_than_the_time_left_allows(
    done: int, total: int, spent_s: float, expected: int
) -> None:
    assert next_iterations(done, total, spent_s, budget_s=30.0) == expected


@pytest.mark.parametrize(("done", "spent_s", "spent"), [(2, 18.0, False), (3, 27.0, True), (1, 31.0, True)])
def test_a_step_that_would_pass_the_budget_is_not_begun(done: int, spent_s: float, spent: bool) -> None:
    assert is_spent(done, spent_s, budget_s=30.0) is spent


def logreg(params: dict[str, Any], budget_s: float) -> tuple[Any, list[str], FitTask]:
    draw = np.random.default_rng(3)
    table = pd.DataFrame(draw.normal(size=(400, 12)), columns=[f"c{i}" for i in range(12)])
    target = ((table["c0"] * 3 + table["c1"] ** 2 + draw.normal(size=400)) > 1).to_numpy().astype(np.int64)
    columns = tuple(Column(name, "number") for name in table.columns)
    extras = {"estimator": "logreg", "params": params}
    given = FitTask(table, target, columns, 2, None, METRICS["balanced_accuracy"], budget_s, 7, 2, extras, Path())
    emitter = Emitter(None)
    fitted = trainers.load("sklearn").fit(given, emitter)
    return fitted.pipeline, emitter.warnings, given


def test_an_ensemble_that_stops_by_itself_is_grown_no_further() -> None:
    draw = np.random.default_rng(3)
    table = pd.DataFrame(draw.normal(size=(480, 5)), columns=[f"c{i}" for i in range(5)])
    target = ((table["c0"] + draw.normal(size=480)) > 0).to_numpy().astype(np.int64)
    columns = tuple(Column(name, "number") for name in table.columns)
    extras = {"estimator": "gradient_boosting", "params": {"n_iter_no_change": 2, "n_estimators": 500}}
    given = FitTask(table, target, columns, 2, None, METRICS["accuracy"], 60.0, 7, 2, extras, Path())
    model = trainers.load("sklearn").fit(given, Emitter(None)).pipeline.named_steps["model"]
    assert model.n_estimators_ <= 100


def test_a_solver_that_is_fitted_in_steps_finds_what_it_finds_in_one() -> None:
    pipeline, warned, given = logreg({"tol": 1e-8}, budget_s=30.0)
    model = pipeline.named_steps["model"]
    matrix = pipeline.named_steps["features"].transform(given.features)
    at_once = LogisticRegression(max_iter=1_000, tol=1e-8).fit(matrix, given.target)
    np.testing.assert_allclose(model.coef_, at_once.coef_, rtol=1e-3, atol=1e-5)
    assert warned == []
    assert (model.max_iter, model.warm_start) == (1_000, False)


@pytest.mark.timed
@pytest.mark.parametrize(
    ("params", "budget_s", "says"),
    [
        ({"solver": "saga", "tol": 1e-300, "max_iter": 10**9}, 0.5, "time_budget_s of 0.5 s was used up"),
        ({"solver": "saga", "tol": 1e-300, "max_iter": 15}, 30.0, "max_iter of 15 iterations was used up"),
    ],
)
def test_a_solver_that_does_not_converge_stops_and_says_why(params: dict[str, Any], budget_s: float, says: str) -> None:
    began = time.monotonic()
    _, warned, _ = logreg(params, budget_s)
    assert any(says in warning for warning in warned), warned
    in_time(budget_s + 3.0, time.monotonic() - began)
