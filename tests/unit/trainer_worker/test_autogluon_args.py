"""What a request may ask of AutoGluon, without training anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.trainer_worker.test_trainers import task
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker import trainers
from trainyard_trainer_worker.spec import AttemptError
from trainyard_trainer_worker.trainers import autogluon_args
from trainyard_trainer_worker.training import analysis
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.evaluation import METRICS

QUICK = {"GBM": {"num_boost_round": 30}}


def read(extras: dict[str, Any]) -> None:
    autogluon_args.read_fit_args(task(extras), Emitter(None))
    autogluon_args.read_importance_args(task(extras))


@pytest.mark.parametrize(
    ("extras", "says"),
    [
        ({"fit_args": []}, "fit_args must be an object"),
        ({"fit_args": {"colour": "red"}}, "fit_args.'colour' is unknown"),
        ({"fit_args": {"presets": "fastest"}}, "'fastest', which is not offered; use best_quality"),
        ({"fit_args": {"presets": ["medium", "extreme"]}}, "it needs a GPU"),
        ({"fit_args": {"presets": {"a": 1}}}, "which is not offered"),
        ({"fit_args": {"hyperparameters": "tiny"}}, "hyperparameters is 'tiny'"),
        ({"fit_args": {"hyperparameters": {"SVM": {}}}}, "'SVM'; use"),
        ({"fit_args": {"hyperparameters": {}}}, "must be an object of models"),
        ({"fit_args": {"hyperparameters": {"GBM": 3}}}, "an object of settings"),
        ({"fit_args": {"hyperparameters": {"GBM": []}}}, "an object of settings"),
        ({"fit_args": {"excluded_model_types": "GBM"}}, "must be a list of names"),
        ({"fit_args": {"num_bag_folds": 1}}, "num_bag_folds is 1"),
        ({"fit_args": {"num_bag_folds": "5"}}, "num_bag_folds must be an integer"),
        ({"fit_args": {"num_stack_levels": 1}}, "needs num_bag_folds"),
        ({"fit_args": {"holdout_frac": 1.5}}, "holdout_frac must be a number between 0 and 1"),
        ({"fit_args": {"refit_full": "all"}}, "refit_full must be true or false"),
        ({"fit_args": {"ag_args_fit": 1}}, "ag_args_fit must be an object"),
        ({"fit_args": {"time_limit": 5}}, "time_budget_s bounds the fit"),
        ({"fit_args": {"eval_metric": "mcc"}}, "metric chooses it"),
        ({"fit_args": {"num_gpus": 8}}, "the GPUs that it has"),
        ({"feature_importance_args": {"num_shuffle_sets": 0}}, "num_shuffle_sets must be an integer from 1"),
        ({"feature_importance_args": {"features": ["smell"]}}, "'smell', which is no feature"),
        ({"feature_importance_args": {"model": "best"}}, "'model' is unknown"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_autogluon_cannot_take_is_refused_with_the_field(extras: dict[str, Any], says: str) -> None:
    with pytest.raises(AttemptError) as caught:
        read(extras)
    assert (caught.value.reason, caught.value.detail) == (Reason.INVALID_REQUEST, "field_invalid")
    assert says in caught.value.message
    assert caught.value.message.startswith("extras.autogluon.")


@pytest.mark.parametrize(
    "fit_args",
    [
        {
            "presets": "medium_quality_faster_train",
            "num_bag_folds": 5,
            "num_stack_levels": 1,
            "hyperparameters": "default",
        },
        {"presets": ["best_quality", "optimize_for_deployment"], "dynamic_stacking": False},
        {"hyperparameters": {"GBM": [{}, {"extra_trees": True}], "XGB": {}}, "holdout_frac": 0.3},
        {"auto_stack": True, "num_stack_levels": 2, "num_bag_sets": 2, "refit_full": True},
    ],
)
def test_what_autogluon_takes_is_passed_on_as_it_is(fit_args: dict[str, Any]) -> None:
    emitter = Emitter(None)
    assert autogluon_args.read_fit_args(task({"fit_args": fit_args}), emitter) == fit_args
    assert emitter.warnings == []


@pytest.mark.parametrize(
    ("name", "n_classes"),
    [(m.name, 2 if m.task_type == "classification" else 0) for m in METRICS.values()] + [("f1", 3), ("roc_auc", 3)],
)
def test_every_metric_has_a_name_in_autogluon(name: str, n_classes: int) -> None:
    from autogluon.core.metrics import get_metric

    problem = {0: "regression", 2: "binary", 3: "multiclass"}[n_classes]
    scorer = get_metric(
        autogluon_args.eval_metric(replace(task({}, n_classes=n_classes), metric=METRICS[name])), problem
    )
    assert scorer.greater_is_better_internal is METRICS[name].greater_is_better


@pytest.mark.parametrize("mode", ["multimodal", "timeseries", 3])
def test_a_mode_that_is_not_there_yet_is_refused_before_anything_is_imported(mode: object) -> None:
    with pytest.raises(AttemptError, match="this worker has tabular") as caught:
        trainers.load("autogluon", {"mode": mode})
    assert caught.value.reason is Reason.INVALID_REQUEST


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"pca": True}, r"analysis\.'pca' is unknown"),
        ({"corr": "yes"}, r"analysis\.corr must be true or false"),
        (["corr"], "analysis must be an object"),
    ],
)
def test_an_analysis_that_is_not_there_is_refused(asked: object, says: str) -> None:
    with pytest.raises(AttemptError, match=says):
        analysis.wanted({"analysis": asked}, "extras.sklearn")


def test_only_the_parts_that_are_asked_for_are_wanted() -> None:
    assert analysis.wanted({"analysis": {"corr": True, "shap": False, "summary": True}}, "x") == ("summary", "corr")
    assert analysis.wanted({}, "x") == ()


@pytest.mark.parametrize(
    ("fit_args", "expected"),
    [
        ({}, False),
        ({"presets": "medium"}, False),
        ({"presets": "hq"}, True),
        ({"presets": ["good_quality", "optimize_for_deployment"]}, True),
        ({"presets": "high_quality", "refit_full": False}, False),
        ({"refit_full": True}, True),
    ],
)
def test_presets_that_fit_everything_once_more_are_known(fit_args: dict[str, Any], expected: bool) -> None:
    assert autogluon_args.refits(fit_args) is expected
