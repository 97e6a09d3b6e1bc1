"""Every request under examples/requests, trained for real: what a newcomer copies must work."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from tests.trainers.conftest import EXAMPLES, Train
from trainyard_schemas.runs import RunRequest
from trainyard_trainer_worker.child_events import Phase, PhaseEnded, Progress, Scalar
from trainyard_trainer_worker.spec import Succeeded
from trainyard_trainer_worker.training.packing import read

REQUESTS = sorted((EXAMPLES / "requests").glob("*.json"))

# What each must reach on its held-out part, with room to spare (the figures of examples/README.md).
FLOORS = {"wine": 0.9, "breast-cancer": 0.95, "diabetes": 66.0, "travel-choice": 0.9}


def test_there_are_examples_for_every_trainer_of_every_data_set() -> None:
    names = {path.stem for path in REQUESTS}
    assert names == {f"{data}-{trainer}" for data in FLOORS for trainer in ("sklearn", "flaml", "autogluon")}


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_an_example_trains_to_a_model_that_beats_its_baseline(path: Path, train: Train) -> None:
    request = RunRequest.model_validate(json.loads(path.read_text())).to_json()
    trained = train(request)
    results = trained.results
    floor = FLOORS[path.stem.rpartition("-")[0]]
    if results["greater_is_better"]:
        assert results["value"] >= floor > results["baseline"]
    else:
        assert results["value"] <= floor < results["baseline"]
    assert set(results["seconds"]) == set(Phase)
    assert [e.phase for e in trained.events if isinstance(e, PhaseEnded)] == list(Phase)
    assert any(isinstance(e, Progress) for e in trained.events)
    assert any(isinstance(e, Scalar) for e in trained.events)
    assert results["feature_importance"]
    assert results["verified"]["ok"] is True
    assert isinstance(trained.outcome, Succeeded)
    archive = read(trained.work_dir / trained.outcome.model.path, trained.outcome.model.sha256)
    assert archive.manifest["request"] == request
    assert archive.manifest["data_sha256"] == results["dataset"]["sha256"]
    assert archive.manifest["split"]["sha256"] == results["split"]["sha256"]
    if request["group_key"]:
        assert results["split"]["overlap"] == 0
        assert not {c.name for c in archive.columns} & set(request["group_key"])
    files = {artifact.name: artifact for artifact in trained.outcome.artifacts}
    plots = {"regression": {"residuals"}, "classification": {"confusion_matrix"}}[results["task_type"]]
    plots |= {"roc_curve"} if len(results["classes"]) == 2 else set()
    plots |= {"feature_importance_plot"}
    assert plots | {f"{plot}_data" for plot in plots} | {"metrics", "feature_importance"} <= files.keys()
    assert ("leaderboard" in files) is (request["trainer"] != "sklearn")
    for artifact in files.values():
        content = (trained.work_dir / artifact.path).read_bytes()
        assert (artifact.sha256, artifact.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
        assert artifact.size_bytes < 200_000
        assert content.startswith(b"\x89PNG") is (artifact.content_type == "image/png")
    metrics = json.loads((trained.work_dir / files["metrics"].path).read_text())
    assert metrics["value"] == results["value"] == metrics["metrics"][metrics["metric"]]
    if request["trainer"] == "flaml":
        log = next(a for a in trained.outcome.artifacts if a.name == "flaml.log")
        assert (trained.work_dir / log.path).read_text().count("validation_loss") == results["summary"]["trials"] > 1


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_the_label_is_the_last_column_of_the_data(path: Path) -> None:
    dataset = json.loads(path.read_text())["dataset"]
    with (EXAMPLES.parent / dataset["uri"]).open(newline="") as file:
        assert next(csv.reader(file))[-1] == dataset["label"]
