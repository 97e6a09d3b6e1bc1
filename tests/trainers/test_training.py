"""Properties of a trained attempt that hold for every library, on data made to expose them."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from tests.trainers.conftest import EXAMPLES, Train, body
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Failed, Succeeded
from trainyard_trainer_worker.training import datasets, frames, splits
from trainyard_trainer_worker.training.packing import read, sha256
from trainyard_trainer_worker.training.predicting import predict_file

TRAINERS = ("sklearn", "flaml", "autogluon")
# Bounded by trials, not by time: on a busy machine two seconds are too few for FLAML or AutoGluon to learn anything.
BY_TRIALS = {
    "flaml": {"fit_args": {"max_iter": 12, "estimator_list": ["lgbm"]}},
    "autogluon": {"fit_args": {"hyperparameters": {"GBM": {}, "XGB": {}, "LR": {}}}},
}


def mixed_csv(task: str, rows: int = 160) -> str:
    """Numbers, gaps, words, truth values, dates, an empty and a constant column; the label follows three of them."""
    chance = random.Random(5)
    lines = ["amount,colour,member,since,empty,same,label"]
    for i in range(rows):
        amount, colour, member = chance.gauss(0, 1), chance.choice(["red", "blue", "green"]), chance.random() < 0.5
        signal = amount + (colour == "red") * 2 + member
        label: object = {
            "binary": "yes" if signal > 1 else "no",
            "multiclass": "low" if signal < 0.5 else "mid" if signal < 1.5 else "high, or more",
            "regression": round(signal * 10, 3),
        }[task]
        gap = i % 11 == 0
        quoted = f'"{label}"' if "," in str(label) else label
        lines.append(
            f"{'' if gap else amount},{'' if i % 13 == 0 else colour},{'' if gap else member},"
            f"20{i % 20 + 10}-01-{i % 28 + 1:02d},,7,{quoted}"
        )
    return "\n".join(lines) + "\n"


GROUPS = [f"{group},{i % 7 - group},{i % 5}" for group in range(8) for i in range(40)]


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_flaml_learns_a_class_that_one_group_holds_alone(train_here: Train, metric: str) -> None:
    labels = ["A" if line.startswith("0,") else "BC"[i % 2] for i, line in enumerate(GROUPS)]
    csv = "g,x,z,y\n" + "".join(f"{line},{label}\n" for line, label in zip(GROUPS, labels, strict=True))
    split = {"method": "group_shuffle", "test_size": 0.25}
    bounds = {"time_budget_s": 100, "extras": BY_TRIALS}
    trained = train_here(body("flaml", "y", "classification", metric, group_key=["g"], split=split, **bounds), csv=csv)
    assert trained.results["summary"]["inner_validation"] == "cross-validation by group"
    assert {row["model"] for row in trained.results["leaderboard"]} >= {"lgbm"}


@pytest.mark.parametrize("trainer", ["sklearn", "flaml", "autogluon"])
def test_a_code_is_predicted_by_what_is_written_whatever_else_the_file_holds(
    train_here: Train, trainer: str, tmp_path: Path
) -> None:
    codes = ["007", "012", "A1", "B2"]
    csv = "code,x,y\n" + "".join(f"{codes[i % 4]},{i % 3},{'P' if i % 4 == 0 else 'Q'}\n" for i in range(800))
    request = body(trainer, "y", "classification", "accuracy", time_budget_s=100, extras=BY_TRIALS)
    trained = train_here(request, csv=csv)
    archive = trained.work_dir / "model.tar.gz"
    data, out = tmp_path / "new.csv", tmp_path / "out.csv"
    data.write_text("code,x\n007,0\n012,0\n007,1\n")
    predict_file(archive, sha256(archive.read_bytes()), data, out, proba=False)
    assert pd.read_csv(out)["prediction"].tolist() == ["P", "Q", "P"]


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(("task", "metric"), [("binary", "f1"), ("multiclass", "f1_macro"), ("regression", "r2")])
def test_mixed_columns_and_text_labels_are_learned(train_here: Train, trainer: str, task: str, metric: str) -> None:
    task_type = "regression" if task == "regression" else "classification"
    request = body(trainer, "label", task_type, metric, time_budget_s=100, extras=BY_TRIALS)
    trained = train_here(request, csv=mixed_csv(task))
    results = trained.results
    assert results["value"] > max(0.6, results["baseline"])
    assert any("'empty'" in warning for warning in results["warnings"])
    assert isinstance(trained.outcome, Succeeded)
    kinds = {c.name: c.kind for c in read(trained.work_dir / "model.tar.gz").columns}
    assert kinds == {"amount": "number", "colour": "category", "member": "number", "since": "date", "same": "number"}
    if task == "multiclass":
        assert results["classes"] == ["high, or more", "low", "mid"]


@pytest.mark.parametrize(
    ("estimator", "task", "file", "label"),
    [
        ("logreg", "classification", "wine", "cultivar"),
        ("random_forest", "classification", "wine", "cultivar"),
        ("gradient_boosting", "classification", "breast_cancer", "diagnosis"),
        ("linear_regression", "regression", "diabetes", "progression"),
        ("ridge", "regression", "diabetes", "progression"),
        ("random_forest", "regression", "diabetes", "progression"),
        ("gradient_boosting", "regression", "diabetes", "progression"),
    ],
)
def test_each_sklearn_estimator_beats_the_baseline(
    train_here: Train, estimator: str, task: str, file: str, label: str
) -> None:
    metric = "balanced_accuracy" if task == "classification" else "mae"
    request = body(
        "sklearn", label, task, metric, uri=f"examples/{file}.csv", extras={"sklearn": {"estimator": estimator}}
    )
    results = train_here(request).results
    assert results["estimator"] == estimator
    assert (results["value"] > results["baseline"]) is results["greater_is_better"]


def test_a_metric_that_the_split_does_not_allow_is_refused_before_the_fit(train_here: Train) -> None:
    csv = "x,y\n" + "".join(f"{i},{'rare' if i == 7 else 'b'}\n" for i in range(60))
    failed = train_here(body("sklearn", "y", "classification", "f1"), csv=csv).failure
    assert (failed.reason, failed.detail) == (Reason.INVALID_DATASET, "metric_undefined")
    assert "fit" not in failed.results["seconds"]


def test_the_reported_values_are_sklearns_on_the_rows_that_the_split_names(train_here: Train) -> None:
    trained = train_here(body("sklearn", "diagnosis", "classification", "roc_auc", uri="examples/breast_cancer.csv"))
    results = trained.results
    archive = read(trained.work_dir / "model.tar.gz")
    table = datasets.parse_csv((EXAMPLES / "breast_cancer.csv").read_bytes())
    target = frames.make_target(table, "diagnosis", "classification")
    split = splits.row_shuffle(target.rows, 0.2, 42, target.values)
    assert split.sha256 == results["split"]["sha256"]
    model = pickle.loads(archive.model)
    features = frames.to_features(table.iloc[split.test], archive.columns)
    truth, codes = target.values[split.test], model.predict(features)
    probabilities = model.predict_proba(features)
    assert results["metrics"] == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, codes),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, codes),
            "f1": sk.f1_score(truth, codes),
            "f1_macro": sk.f1_score(truth, codes, average="macro"),
            "log_loss": sk.log_loss(truth, probabilities),
            "roc_auc": sk.roc_auc_score(truth, probabilities[:, 1]),
        }
    )


def test_preprocessing_is_fitted_on_the_training_part_only(train_here: Train) -> None:
    table = pd.DataFrame({"x": np.r_[np.arange(99.0), np.nan], "y": np.arange(100) % 2})
    trained = train_here(body("sklearn", "y", "classification", "accuracy"), csv=table.to_csv(index=False))
    assert trained.results
    model = pickle.loads(read(trained.work_dir / "model.tar.gz").model)
    imputer = model.named_steps["features"].named_transformers_["number"].steps[0][1]
    split = splits.row_shuffle(np.arange(100), 0.2, 42, (np.arange(100) % 2).astype(np.int64))
    assert imputer.statistics_[0] == table["x"].iloc[split.train].median()
    assert imputer.statistics_[0] != table["x"].median()


def memorable_csv() -> str:
    """60 groups of 12 rows; the label is a coin toss per group, and the one feature tells the groups apart.

    Who sees a group in training knows its label; who does not can only guess.
    """
    chance = random.Random(11)
    lines = ["who,x,y"]
    for group in range(60):
        label = chance.randrange(2)
        lines += [f"g{group},{group + chance.random() / 10},{label}" for _ in range(12)]
    return "\n".join(lines) + "\n"


def test_flaml_validates_by_groups_inside_too(train_here: Train) -> None:
    request = body("flaml", "y", "classification", "accuracy", group_key=["who"], time_budget_s=100)
    request["extras"] = {"flaml": {"fit_args": {"estimator_list": ["kneighbor"], "max_iter": 6}}}  # good at memorising
    whole = train_here({**request, "split": {"method": "group_shuffle"}}, csv=memorable_csv()).results
    torn = train_here({**request, "split": {"method": "row_shuffle"}}, csv=memorable_csv()).results
    assert torn["summary"]["best_loss"] < 0.15, "the data must be memorable, or this test shows nothing"
    assert torn["value"] > 0.85
    assert whole["summary"]["best_loss"] > 0.25
    assert whole["value"] < 0.8
    assert any("row_shuffle ignores group_key" in warning for warning in torn["warnings"])


def test_the_same_request_gives_the_same_split_and_the_same_model(train: Train) -> None:
    request = body("sklearn", "cultivar", "classification", "log_loss", uri="examples/wine.csv", time_budget_s=60)
    first, second = train(request), train(request)
    assert first.results["split"] == second.results["split"]
    assert first.results["prediction_sha256"] == second.results["prediction_sha256"]
    assert isinstance(first.outcome, Succeeded)
    assert isinstance(second.outcome, Succeeded)
    assert first.outcome.model.sha256 == second.outcome.model.sha256
    other = train({**request, "split": {"random_seed": 1}})
    assert other.results["split"]["sha256"] != first.results["split"]["sha256"]


def test_flaml_is_deterministic_where_trials_and_not_time_bound_it(train: Train) -> None:
    request = body("flaml", "cultivar", "classification", "log_loss", uri="examples/wine.csv", time_budget_s=100)
    request["extras"] = {"flaml": {"fit_args": {"max_iter": 4, "estimator_list": ["lgbm"]}}}
    first, second = train(request), train(request)
    assert first.results["summary"]["trials"] == second.results["summary"]["trials"] == 4
    assert first.results["prediction_sha256"] == second.results["prediction_sha256"]


def test_a_growing_ensemble_keeps_the_time_budget(train_here: Train) -> None:
    extras = {"sklearn": {"estimator": "gradient_boosting", "params": {"n_estimators": 20_000}}}
    request = body("sklearn", "progression", "regression", "rmse", uri="examples/diabetes.csv", time_budget_s=1)
    results = train_here({**request, "extras": extras}).results
    assert any("time_budget_s of 1 s was used up" in warning for warning in results["warnings"])
    assert results["config"]["n_estimators"] < 20_000


@pytest.mark.parametrize(
    ("trainer", "change", "reason", "detail"),
    [
        ("flaml", {"dataset": {"uri": "examples/wine.csv", "label": "x"}}, Reason.INVALID_DATASET, "label_missing"),
        ("autogluon", {"dataset": {"uri": "examples/wine.csv", "label": "x"}}, Reason.INVALID_DATASET, "label_missing"),
        ("autogluon", {"task_type": "regression", "metric": "rmse"}, Reason.INVALID_DATASET, "label_not_numeric"),
        ("autogluon", {"metric": "MASE"}, Reason.INVALID_REQUEST, "metric_unknown"),
        ("sklearn", {"dataset": {"uri": "examples/none.csv", "label": "y"}}, Reason.INVALID_DATASET, "file_missing"),
        (
            "sklearn",
            {"dataset": {"uri": "s3://b/x.csv", "label": "y"}},
            Reason.DATASET_UNREACHABLE,
            "remote_not_fetched",
        ),
        ("sklearn", {"task_type": "regression", "metric": "rmse"}, Reason.INVALID_DATASET, "label_not_numeric"),
        ("sklearn", {"metric": "mAP50"}, Reason.INVALID_REQUEST, "metric_unknown"),
        (
            "sklearn",
            {"split": {"method": "group_shuffle"}, "group_key": ["who"]},
            Reason.INVALID_DATASET,
            "group_key_missing",
        ),
        ("sklearn", {"extras": {"sklearn": {"estimator": "ridge"}}}, Reason.INVALID_REQUEST, "field_invalid"),
        ("sklearn", {"extras": {"sklearn": {"params": {"trees": 3}}}}, Reason.INVALID_REQUEST, "field_invalid"),
        ("sklearn", {"extras": {"sklearn": {"params": {"max_depth": -3}}}}, Reason.INVALID_REQUEST, "field_invalid"),
        (
            "flaml",
            {"extras": {"flaml": {"fit_args": {"estimator_list": ["catboost"]}}}},
            Reason.INVALID_REQUEST,
            "field_invalid",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_trained_fails_with_its_reason(
    train_here: Train, trainer: str, change: dict[str, Any], reason: Reason, detail: str
) -> None:
    request = body(trainer, "cultivar", "classification", "accuracy", uri="examples/wine.csv")
    failure = train_here({**request, **change}).failure
    assert (failure.reason, failure.detail) == (reason, detail)
    assert "import" in failure.results["seconds"]


def test_an_unknown_trainer_is_refused_with_those_there_are(train_here: Train) -> None:
    failure = train_here(body("weka", "cultivar", "classification", "accuracy", uri="examples/wine.csv")).failure
    assert (failure.reason, failure.detail) == (Reason.INVALID_REQUEST, "trainer_unknown")
    assert "autogluon, flaml, sklearn" in failure.message


def test_memory_beyond_the_limit_is_its_own_reason(train: Train) -> None:
    chance = random.Random(1)
    names = ",".join(f"c{i}" for i in range(60))
    rows = "\n".join(",".join(f"w{chance.randrange(40)}" for _ in range(60)) + f",{i % 2}" for i in range(15_000))
    request = body("sklearn", "y", "classification", "accuracy")
    failure = train(request, csv=f"{names},y\n{rows}\n", memory_limit_bytes=600 << 20).failure
    assert isinstance(failure, Failed)
    assert (failure.reason, failure.detail) == (Reason.OUT_OF_MEMORY, "memory")
