"""AutoGluon's adapter, trained for real: groups, budgets, bad requests, tiny data, models that load by themselves."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.timing import in_time
from tests.trainers.conftest import EXAMPLES, Train, body
from tests.trainers.test_training import memorable_csv
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_events import Progress, Scalar
from trainyard_trainer_worker.spec import Succeeded
from trainyard_trainer_worker.training import datasets, frames, splits
from trainyard_trainer_worker.training.packing import read

QUICK = {"GBM": {"num_boost_round": 30}}


def request(label: str = "y", task: str = "classification", metric: str = "accuracy", **more: Any) -> dict[str, Any]:
    """A request for AutoGluon with one quick model, bounded by its rounds; `autogluon` holds its extras."""
    extras = {"fit_args": {"hyperparameters": QUICK}, **more.pop("autogluon", {})}
    return {**body("autogluon", label, task, metric, time_budget_s=more.pop("time_budget_s", 100), **more),
            "extras": {"autogluon": extras}}  # fmt: skip


def wine(**more: Any) -> dict[str, Any]:
    return request("cultivar", uri="examples/wine.csv", **more)


LOADS_ALONE = """
import json, sys
import pandas as pd
from autogluon.tabular import TabularPredictor
manifest, sample = (json.load(open(name)) for name in ("manifest.json", "sample.json"))
predictor = TabularPredictor.load(manifest["model"]["path"])
rows = pd.DataFrame(sample["rows"], columns=[column["name"] for column in manifest["columns"]])
assert not [name for name in sys.modules if name.startswith("trainyard")]
print(json.dumps({"load": manifest["model"]["load"], "proba": predictor.predict_proba(rows).values.tolist(),
                  "expected": sample["probabilities"]}))
"""


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_an_alarm_that_a_finalizer_swallows_rings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainyard_trainer_worker.trainers import autogluon_control
    from trainyard_trainer_worker.trainers.autogluon_control import TimeUp, interrupted_after

    monkeypatch.setattr(autogluon_control, "AGAIN_S", 0.2)
    rung: list[bool] = []

    class Busy:
        def __del__(self) -> None:
            try:
                time.sleep(20)
            except TimeUp:
                rung.append(True)
                raise

    def work() -> None:
        with interrupted_after(0.1):
            Busy()
            time.sleep(20)

    with pytest.raises(TimeUp):
        work()
    assert rung == [True]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_packed_model_loads_with_autogluon_alone_and_predicts_the_same(train_here: Train, tmp_path: Path) -> None:
    trained = train_here(wine(autogluon={"fit_args": {"hyperparameters": {"GBM": {}, "XGB": {}, "LR": {}}}}))
    assert trained.results["value"] > 0.9
    assert isinstance(trained.outcome, Succeeded)
    assert trained.outcome.model.size_bytes < 1 << 20
    archive = read(trained.work_dir / "model.tar.gz", trained.outcome.model.sha256)
    assert archive.format == "autogluon.tabular"
    unpacked = tmp_path / "unpacked"
    with tarfile.open(trained.work_dir / "model.tar.gz") as tar:
        tar.extractall(unpacked, filter="data")
    done = subprocess.run(
        [sys.executable, "-c", LOADS_ALONE], cwd=unpacked, capture_output=True, text=True, check=True, timeout=120
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["load"] == "autogluon.tabular.TabularPredictor.load('predictor')"
    for row, expected in zip(said["proba"], said["expected"], strict=True):
        assert row == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "fit_args",
    [
        {"hyperparameters": {"KNN": {}}},
        {"hyperparameters": {"KNN": {}}, "num_bag_folds": 4},
        {"hyperparameters": {"KNN": {}}, "num_bag_folds": 3, "num_stack_levels": 1, "num_bag_sets": 2},
    ],
    ids=["held out", "bagged", "stacked"],
)
def test_autogluon_validates_by_groups_inside_too(train_here: Train, fit_args: dict[str, Any]) -> None:
    asked = request(group_key=["who"], autogluon={"fit_args": fit_args})
    whole = train_here({**asked, "split": {"method": "group_shuffle"}}, csv=memorable_csv())
    torn = train_here({**asked, "split": {"method": "row_shuffle"}}, csv=memorable_csv()).results
    assert torn["summary"]["best_validation_value"] > 0.85, "the data must be memorable, or this test shows nothing"
    assert torn["value"] > 0.85
    assert whole.results["summary"]["best_validation_value"] < 0.75
    assert whole.results["summary"]["inner_validation"] == "by group"
    assert whole.results["split"]["overlap"] == 0
    assert set(whole.results["feature_importance"]) == {"x"}
    assert [column.name for column in read(whole.work_dir / "model.tar.gz").columns] == ["x"]


@pytest.mark.slow
def test_a_preset_that_tries_stacking_first_keeps_groups_whole_as_well(train_here: Train) -> None:
    asked = request(
        group_key=["who"],
        split={"method": "group_shuffle"},
        autogluon={"fit_args": {"presets": "best_quality", "hyperparameters": {"KNN": {}}}},
    )
    results = train_here(asked, csv=memorable_csv()).results
    assert results["summary"]["best_validation_value"] < 0.75


def test_one_group_in_training_is_refused_with_the_way_out(train_here: Train) -> None:
    table = "who,x,y\n" + "".join(f"{i % 2},{i},{i % 3 % 2}\n" for i in range(40))
    asked = request(group_key=["who"], split={"method": "group_shuffle", "test_size": 0.5})
    failure = train_here(asked, csv=table).failure
    assert (failure.reason, failure.detail) == (Reason.INVALID_REQUEST, "field_invalid")
    assert "group_key leaves one group" in failure.message


def awkward_csv(rows: int = 120) -> str:
    """Names that libraries stumble over, gaps, infinities, truth values, text of many words, dates with and without a
    time, a constant column."""
    chance = random.Random(3)
    lines = ['"a [b]<c>{""d""}: e",colour,label,group,member,note,since,at,same,y']
    for i in range(rows):
        number = chance.gauss(0, 1)
        note = " ".join(chance.choices(["alpha", "beta", "gamma", "delta", "epsilon"], k=6))
        shown = "inf" if i == 5 else "" if i % 11 == 0 else f"{number}"
        lines.append(
            f"{shown},{chance.choice(['red', 'blue', '', 'été'])},{i % 4},{i % 3},{chance.random() < 0.5},{note},"
            f"20{i % 20 + 10}-01-{i % 28 + 1:02d},2024-05-01T{i % 24:02d}:00:00+02:00,7,{'yes' if number > 0 else 'no'}"
        )
    return "\n".join(lines) + "\n"


def test_awkward_columns_and_names_are_learned(train_here: Train) -> None:
    models = {**QUICK, "XGB": {"n_estimators": 30}, "LR": {}}
    asked = request(autogluon={"fit_args": {"hyperparameters": models}})
    results = train_here(asked, csv=awkward_csv()).results
    assert results["value"] > 0.8
    assert {row["model"] for row in results["leaderboard"]} == {
        "LightGBM",
        "XGBoost",
        "LinearModel",
        "WeightedEnsemble_L2",
    }
    assert results["summary"]["failed_models"] == {}
    assert next(iter(results["feature_importance"])) == 'a [b]<c>{"d"}: e'


@pytest.mark.parametrize(
    ("labels", "task", "metric"),
    [
        (["a", "b"], "classification", "log_loss"),
        (["a", "b", "c"], "classification", "f1_macro"),
        (["a", "b", "c"], "classification", "roc_auc"),
        ([1.5, 2.5, 3.25, 4.0], "regression", "mae"),
        ([1.5, 2.5, 3.25, 4.0], "regression", "r2"),
    ],
)
def test_ten_rows_are_enough(train_here: Train, labels: list[object], task: str, metric: str) -> None:
    rows = "".join(f"{i},{labels[i % len(labels)]}\n" for i in range(10))
    trained = train_here(request(task=task, metric=metric, split={"test_size": 0.3}), csv="x,y\n" + rows)
    assert trained.results["verified"]["ok"] is True


def test_a_class_of_one_row_is_kept(train_here: Train) -> None:
    rows = "".join(f"{i},{'ab'[i % 2]}\n" for i in range(60)) + "99,rare\n"
    trained = train_here(request(), csv="x,y\n" + rows)
    assert trained.results["classes"] == ["a", "b", "rare"]
    assert trained.results["split"]["n_train"] + trained.results["split"]["n_test"] == 61


def test_every_report_that_is_asked_for_is_there_and_no_other(train_here: Train) -> None:
    analysis = {"summary": True, "corr": True, "mutual_info": True, "target_corr": True, "shap": True}
    asked = wine(
        autogluon={
            "analysis": analysis,
            "fit_summary": True,
            "feature_importance_args": {"num_shuffle_sets": 5, "subsample_size": 20, "features": ["alcohol", "hue"]},
        }
    )
    trained = train_here(asked)
    assert isinstance(trained.outcome, Succeeded)
    files = {artifact.name: trained.work_dir / artifact.path for artifact in trained.outcome.artifacts}
    parts = {"analysis_summary", "analysis_corr", "analysis_mutual_info", "analysis_target_corr"}
    assert parts | {"fit_summary", "leaderboard", "leaderboard_data", "feature_importance"} <= files.keys()
    assert "analysis_shap" not in files
    assert any("analysis.shap was left out" in warning for warning in trained.results["warnings"])
    with files["feature_importance"].open(newline="") as file:
        importance = list(csv.DictReader(file))
    assert {row["feature"] for row in importance} == {"alcohol", "hue"}
    assert all(float(row["n"]) == 5 for row in importance), "feature_importance_args reached AutoGluon"
    assert json.loads(files["leaderboard_data"].read_text()) == trained.results["leaderboard"]
    assert "LightGBM" in json.loads(files["fit_summary"].read_text())["model_types"]

    bare = train_here(wine(autogluon={"leaderboard": False, "feature_importance": False, "analysis": {"corr": False}}))
    assert isinstance(bare.outcome, Succeeded)
    names = {artifact.name for artifact in bare.outcome.artifacts}
    assert names == {"metrics", "confusion_matrix", "confusion_matrix_data"}
    assert bare.results["leaderboard"] == []
    assert bare.results["feature_importance"] == {}


def test_the_analysis_is_of_the_training_part_only(train_here: Train) -> None:
    trained = train_here(wine(autogluon={"analysis": {"summary": True, "target_corr": True}}))
    table = datasets.parse_csv((EXAMPLES / "wine.csv").read_bytes())
    target = frames.make_target(table, "cultivar", "classification")
    part = table.iloc[splits.row_shuffle(target.rows, 0.2, 42, target.values).train]
    summary = pd.read_csv(trained.work_dir / "analysis_summary.csv", index_col="feature")
    assert summary.loc["alcohol", "mean"] == pytest.approx(part["alcohol"].mean())
    assert summary.loc["alcohol", "mean"] != pytest.approx(table["alcohol"].mean(), rel=1e-6)
    correlation = pd.read_csv(trained.work_dir / "analysis_target_corr.csv", index_col="feature")
    for name in target.classes:
        expected = part["hue"].corr((part["cultivar"] == name).astype(float))
        assert correlation.loc["hue", str(name)] == pytest.approx(expected)


def test_progress_tells_of_every_model(train: Train) -> None:
    trained = train(wine(autogluon={"fit_args": {"hyperparameters": {"GBM": {}, "XGB": {}}}}))
    assert trained.results["summary"]["models"] == 3
    points = [event for event in trained.events if isinstance(event, Scalar) and event.title == "validation accuracy"]
    assert {point.series for point in points} == {"LightGBM", "XGBoost", "WeightedEnsemble_L2"}
    steps = [event.step for event in trained.events if isinstance(event, Progress)]
    assert steps == sorted(steps)
    assert steps[-1] == 3


# Many thousands of rounds of one model, which AutoGluon's own limits would let run on and on.
ENDLESS = {"GBM": {"num_boost_round": 10_000_000, "learning_rate": 1e-7, "ag.early_stop": 10**9}}


@pytest.mark.timed
def test_the_time_budget_bounds_the_fit_and_what_was_trained_is_kept(train_here: Train) -> None:
    asked = request(
        "diagnosis",
        metric="log_loss",
        uri="examples/breast_cancer.csv",
        time_budget_s=4,
        autogluon={"fit_args": {"hyperparameters": {"GBM": [{}, ENDLESS["GBM"]]}}},
    )
    results = train_here(asked).results
    in_time(7, results["seconds"]["fit"])
    assert results["value"] < results["baseline"]


@pytest.mark.timed
def test_a_model_that_ignores_its_limit_is_interrupted_and_the_others_are_kept(
    train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autogluon.tabular.models import XGBoostModel

    def fit_for_ever(self: object, **_: object) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            sum(range(1000))

    monkeypatch.setattr(XGBoostModel, "_fit", fit_for_ever)
    started = time.monotonic()
    asked = wine(time_budget_s=8, autogluon={"fit_args": {"hyperparameters": {**QUICK, "XGB": {}}}})
    results = train_here(asked).results
    in_time(11, results["seconds"]["fit"])
    assert time.monotonic() - started < 40
    assert [row["model"] for row in results["leaderboard"]] == ["LightGBM"]
    assert any("did not end within time_budget_s = 8" in warning for warning in results["warnings"])

    alone = train_here(wine(time_budget_s=1, autogluon={"fit_args": {"hyperparameters": {"XGB": {}}}})).failure
    assert (alone.reason, alone.detail) == (Reason.TRAINER_ERROR, "no_model")
    assert "raise it or choose lighter models" in alone.message


@pytest.mark.parametrize(
    ("extras", "says"),
    [
        ({"mode": "multimodal"}, "mode is 'multimodal'; this worker has tabular"),
        ({"fit_args": {"num_bag_folds": "5"}}, "num_bag_folds must be an integer"),
        ({"fit_args": {"hyperparameters": {"CAT": {}}}}, "no model of them can be trained"),
        ({"fit_args": {"hyperparameters": {"GBM": {"objective": "nonsense"}}}}, "no model of them can be trained"),
        ({"fit_args": {"excluded_model_types": ["GBM"], "hyperparameters": QUICK}}, "leaves no model to train"),
        ({"feature_importance_args": {"features": ["smell"]}}, "'smell', which is no feature"),
        ({"analysis": {"pca": True}}, "analysis.'pca' is unknown"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_autogluon_cannot_do_is_the_requests_fault_and_named(
    train_here: Train, extras: dict[str, Any], says: str
) -> None:
    failure = train_here(wine(autogluon=extras)).failure
    assert (failure.reason, failure.detail) == (Reason.INVALID_REQUEST, "field_invalid"), failure
    assert says in failure.message
    assert failure.message.startswith("extras.autogluon.")


def test_a_metric_that_the_inner_validation_does_not_allow_gives_way_to_log_loss(train_here: Train) -> None:
    rows = "".join(f"g{i // 8},{i},{i // 8 % 2}\n" for i in range(40))  # every group is of one class
    asked = request(metric="roc_auc", group_key=["who"], split={"method": "group_shuffle", "test_size": 0.4})
    results = train_here(asked, csv="who,x,y\n" + rows).results
    assert results["summary"]["inner_metric"] == "log_loss"
    assert results["leaderboard"][0]["validation_value"] > 0
    assert any("log_loss took its place" in warning for warning in results["warnings"])


def test_an_unknown_setting_of_the_namespace_is_told(train_here: Train) -> None:
    results = train_here(wine(autogluon={"colour": "red"})).results
    assert any("extras.autogluon.'colour' is unknown" in warning for warning in results["warnings"])


def test_a_model_whose_library_is_not_installed_is_left_out_with_a_warning(train_here: Train) -> None:
    results = train_here(wine(autogluon={"fit_args": {"hyperparameters": {**QUICK, "FASTAI": {}}}})).results
    assert [row["model"] for row in results["leaderboard"] if row["stack_level"] == 1] == ["LightGBM"]
    assert any("left out 'NeuralNetFastAI': ImportError" in warning for warning in results["warnings"])


def test_too_little_memory_is_its_own_reason(train: Train) -> None:
    chance = random.Random(1)
    names = ",".join(f"c{i}" for i in range(60))
    rows = "\n".join(",".join(f"w{chance.randrange(40)}" for _ in range(60)) + f",{i % 2}" for i in range(40_000))
    failure = train(request(), csv=f"{names},y\n{rows}\n", memory_limit_bytes=400 << 20).failure
    assert (failure.reason, failure.detail) == (Reason.OUT_OF_MEMORY, "memory")
