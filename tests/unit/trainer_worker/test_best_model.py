from __future__ import annotations

from typing import Any

import pytest

from trainyard_trainer_worker.clearml_best_model import beats, newest
from trainyard_trainer_worker.model_facts import artifact_entry, artifact_record, metadata_of, model_metadata
from trainyard_trainer_worker.model_naming import best_name, metadata_items
from trainyard_trainer_worker.spec import Artifact


@pytest.mark.parametrize(
    ("trainer", "name", "expected"),
    [
        ("flaml", "wine-flaml", "wine-best"),
        ("sklearn", "wine-sklearn", "wine-best"),
        ("flaml", "flaml-demo-run", "demo-run-best"),
        ("flaml", "my FLAML run", "my-run-best"),
        ("flaml", "flaml", "flaml-best"),
        ("flaml", "notflaml", "notflaml-best"),
        ("sklearn", "Wine (SKLearn)", "Wine-best"),
    ],
)
def test_trainers_of_one_base_share_the_name_of_the_best(trainer: str, name: str, expected: str) -> None:
    assert best_name(trainer, name) == expected


def registered(version: int = 1, **values: object) -> dict[str, Any]:
    described = {
        "version": version,
        "metric": "rmse",
        "value": 2.5,
        "dataset_sha256": "d",
        "split_sha256": "s",
        **values,
    }
    return {"metadata": metadata_items(described)}


def results(value: object, **changes: object) -> dict[str, Any]:
    found = {"metric": "rmse", "greater_is_better": False, "dataset": {"sha256": "d"}, "split": {"sha256": "s"}}
    return {**found, "value": value, **changes}


def test_the_first_model_is_the_best() -> None:
    assert beats(results(9.0), None)


def test_a_model_must_be_better_in_its_metrics_direction_on_the_same_rows() -> None:
    assert beats(results(2.4), registered())
    assert not beats(results(2.5), registered())
    assert not beats(results(2.6), registered())
    up = {"metric": "accuracy", "greater_is_better": True}
    assert beats(results(0.9, **up), registered(metric="accuracy", value=0.8))
    assert not beats(results(0.7, **up), registered(metric="accuracy", value=0.8))


@pytest.mark.parametrize(
    "other", [{"metric": "mae"}, {"dataset_sha256": "e"}, {"split_sha256": "t"}, {"value": "much"}]
)
def test_what_cannot_be_compared_gives_way_to_what_is_asked_for_now(other: dict[str, Any]) -> None:
    assert beats(results(100.0), registered(**other))


def test_the_newest_is_the_one_with_the_highest_version() -> None:
    assert newest([registered(2), registered(10), registered(9)]) == registered(10)
    assert newest([]) is None


def test_metadata_hold_every_figure_and_link_the_reports() -> None:
    artifact = Artifact("leaderboard", "leaderboard.csv", "text/csv", "ab", 7)
    entry = artifact_entry(artifact, "http://f/leaderboard.csv")
    assert entry == {
        "name": "leaderboard",
        "uri": "http://f/leaderboard.csv",
        "content_type": "text/csv",
        "sha256": "ab",
        "bytes": 7,
    }
    record = artifact_record(artifact, "http://f/leaderboard.csv", 5)
    assert (record["key"], record["hash"], record["content_size"]) == ("leaderboard", "ab", 7)
    found = results(1.5, metrics={"rmse": 1.5, "r2": None}, trainer="autogluon")
    described = model_metadata("run", 1, "claim", found, "ff", 3, [entry, {"name": "notes", "uri": "http://f/n"}])
    kept = metadata_of({"metadata": metadata_items(described)})
    assert kept["metrics.rmse"] == "1.5"
    assert kept["artifacts.leaderboard"] == "http://f/leaderboard.csv"
    assert kept["split_sha256"] == "s"
    assert "metrics.r2" not in kept
    assert "artifacts.notes" not in kept
