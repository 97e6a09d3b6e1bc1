"""The best model of a base, registered with a real ClearML server beside the runs' own models."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient
from trainyard_trainer_worker.clearml_best_model import name_best
from trainyard_trainer_worker.model_facts import metadata_of


def ended(base: str, trainer: str, value: float, split: str = "s") -> dict[str, Any]:
    """The results of a run as its closing event has them."""
    name = f"{base}-{trainer}"
    return {
        "trainer": trainer,
        "metric": "accuracy",
        "value": value,
        "greater_is_better": True,
        "dataset": {"sha256": "d"},
        "split": {"sha256": split},
        "model": {
            "id": uuid.uuid4().hex,
            "name": name,
            "framework": trainer,
            "project": "Bases-Models",
            "version": 1,
            "uri": f"http://files/{uuid.uuid4().hex}/model.tar.gz",
            "sha256": "ab",
            "tags": [trainer],
        },
    }


def test_a_better_model_of_any_trainer_becomes_the_next_version_of_the_best(clearml_server: ClearMLServer) -> None:
    base = f"wine-{uuid.uuid4().hex[:8]}"
    first, worse, better = ended(base, "sklearn", 0.9), ended(base, "flaml", 0.8), ended(base, "autogluon", 0.95)
    other_rows = ended(base, "flaml", 0.5, split="t")

    async def run() -> list[dict[str, Any]]:
        async with ClearMLClient(clearml_server.settings()) as client:
            assert await name_best(client, first, publish=False)
            assert await name_best(client, first, publish=False) is None, "harmless twice"
            assert await name_best(client, worse, publish=False) is None
            assert await name_best(client, better, publish=True)
            assert await name_best(client, other_rows, publish=False)
            project = await client.ensure_project("Bases-Models")
            found = await client.find_models({"project": [project]})
            return [model for model in found if model["name"] == f"{base}-best"]

    models = sorted(asyncio.run(run()), key=lambda model: int(metadata_of(model)["version"]))
    runs = (first, better, other_rows)
    assert [model["uri"] for model in models] == [one["model"]["uri"] for one in runs]
    assert [metadata_of(model)["version"] for model in models] == ["1", "2", "3"]
    assert [metadata_of(model)["model_id"] for model in models] == [one["model"]["id"] for one in runs]
    assert [model["ready"] for model in models] == [False, True, False]
    assert set(models[1]["tags"]) == {"autogluon", "best"}
