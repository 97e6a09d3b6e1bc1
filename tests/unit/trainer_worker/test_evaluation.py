from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from trainyard_schemas.trainers import CLASSIFICATION_METRICS, REGRESSION_METRICS
from trainyard_trainer_worker.spec import AttemptError
from trainyard_trainer_worker.training import evaluation
from trainyard_trainer_worker.training.evaluation import METRICS, Predictions


def classification(n_classes: int, seed: int, n: int = 200) -> tuple[Any, Predictions]:
    random = np.random.RandomState(seed)
    probabilities = random.dirichlet(np.ones(n_classes), size=n)
    return random.randint(0, n_classes, n), Predictions(probabilities.argmax(axis=1), probabilities)


def test_the_table_covers_what_the_registry_offers() -> None:
    assert {m.name for m in METRICS.values() if m.task_type == "classification"} == set(CLASSIFICATION_METRICS)
    assert {m.name for m in METRICS.values() if m.task_type == "regression"} == set(REGRESSION_METRICS)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_classification_metrics_equal_sklearns(n_classes: int, seed: int) -> None:
    truth, p = classification(n_classes, seed)
    assert p.probabilities is not None
    binary = n_classes == 2
    expected = {
        "accuracy": sk.accuracy_score(truth, p.values),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, p.values),
        "f1": sk.f1_score(truth, p.values, average="binary" if binary else "macro"),
        "f1_macro": sk.f1_score(truth, p.values, average="macro"),
        "log_loss": sk.log_loss(truth, p.probabilities),
        "roc_auc": sk.roc_auc_score(truth, p.probabilities[:, 1])
        if binary
        else sk.roc_auc_score(truth, p.probabilities, multi_class="ovr"),
    }
    assert evaluation.score_all("classification", truth, p) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_regression_metrics_equal_sklearns(seed: int) -> None:
    random = np.random.RandomState(seed)
    truth, values = random.normal(size=100), random.normal(size=100)
    expected = {
        "rmse": sk.root_mean_squared_error(truth, values),
        "mae": sk.mean_absolute_error(truth, values),
        "r2": sk.r2_score(truth, values),
    }
    assert evaluation.score_all("regression", truth, Predictions(values, None)) == pytest.approx(expected)


@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.task_type == "classification"])
def test_the_declared_direction_is_the_one_in_which_a_perfect_model_lies(name: str) -> None:
    truth, guess = classification(3, 1)
    perfect = Predictions(truth, np.eye(3)[truth])
    best, worse = evaluation.score(name, truth, perfect), evaluation.score(name, truth, guess)
    assert best is not None
    assert worse is not None
    assert (best > worse) is METRICS[name].greater_is_better


def test_a_metric_that_the_held_out_part_cannot_give_is_null_and_ends_a_run_that_asked_for_it() -> None:
    truth = np.zeros(5, dtype=np.int64)
    p = Predictions(truth, np.full((5, 2), 0.5))
    assert evaluation.score("roc_auc", truth, p) is None
    assert evaluation.score("r2", np.ones(3), Predictions(np.ones(3), None)) is None
    with pytest.raises(AttemptError, match="5 rows with 1 different") as caught:
        evaluation.defined(METRICS["roc_auc"], None, truth)
    assert caught.value.detail == "metric_undefined"


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1", "f1_macro", "roc_auc"])
@pytest.mark.parametrize("held_out", [0, 1])
def test_a_metric_that_tells_classes_apart_needs_two_of_them_and_no_model_to_say_so(name: str, held_out: int) -> None:
    trained = np.array([0, 1] * 5)
    evaluation.refuse_undefined(METRICS[name], trained, np.array([0, 1]), 2)
    with pytest.raises(AttemptError, match=f"{name} is not defined on the held-out part: 5 rows with 1 different"):
        evaluation.refuse_undefined(METRICS[name], trained, np.full(5, held_out), 2)


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_a_metric_of_single_rows_needs_no_second_class(name: str) -> None:
    evaluation.refuse_undefined(METRICS[name], np.array([0, 1] * 5), np.zeros(5, dtype=np.int64), 2)


def test_the_second_of_two_classes_is_the_positive_one() -> None:
    assert evaluation.positive_class(("fraud", "legit")) == "legit"
    assert evaluation.positive_class((0, 1, 2)) is None
    assert evaluation.positive_class(()) is None


def test_the_baseline_knows_the_training_part_only() -> None:
    guess = evaluation.baseline(np.array([0, 1, 1, 1]), 2, 3)
    assert guess.values.tolist() == [1, 1]
    assert guess.probabilities is not None
    assert guess.probabilities[0].tolist() == [0.25, 0.75, 0.0]
    assert evaluation.baseline(np.array([1.0, 3.0]), 2, 0).values.tolist() == [2.0, 2.0]


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(AttemptError, match="accuracy, balanced_accuracy"):
        evaluation.choose_metric("rmse", "flaml", "classification")
    assert evaluation.choose_metric(None, "flaml", "classification").name == "accuracy"
    assert evaluation.choose_metric(None, "sklearn", "regression").name == "rmse"


class Threshold:
    """Predicts class 1 where column `signal` is positive."""

    classes_ = np.array([0, 1])

    def predict_proba(self, features: pd.DataFrame) -> Any:
        positive = (features["signal"].to_numpy() > 0).astype(float)
        return np.column_stack([1 - positive, positive])


def importance_of(limit_s: float, times: list[float]) -> tuple[dict[str, float], Any]:
    random = np.random.RandomState(3)
    features = pd.DataFrame({"noise": random.normal(size=300), "signal": random.normal(size=300)})
    truth = (features["signal"].to_numpy() > 0).astype(np.int64)
    clock = iter(times)
    return evaluation.permutation_importance(
        Threshold(), features, truth, METRICS["log_loss"], 2, 7, limit_s, clock=lambda: next(clock)
    )


def test_importance_finds_the_column_that_matters_whichever_way_the_metric_points() -> None:
    importance, left = importance_of(10.0, [0.0] * 10)
    assert list(importance) == ["signal", "noise"]
    assert importance["signal"] > 1
    assert importance["noise"] == pytest.approx(0.0, abs=1e-9)
    assert left == []


def test_importance_stops_at_its_limit_and_says_what_it_left_out() -> None:
    importance, left = importance_of(10.0, [0.0, 1.0, 11.0])
    assert list(importance) == ["noise"]
    assert left == ["signal"]


def test_a_class_that_training_never_saw_gets_probability_zero() -> None:
    class OnlyTwo(Threshold):
        classes_ = np.array([0, 2])

    p = evaluation.predict(OnlyTwo(), pd.DataFrame({"signal": [1.0, -1.0]}), 3)
    assert p.values.tolist() == [2, 0]
    assert p.probabilities is not None
    assert p.probabilities[:, 1].tolist() == [0.0, 0.0]
