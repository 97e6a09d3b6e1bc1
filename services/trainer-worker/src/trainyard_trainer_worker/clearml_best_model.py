"""`<base>-best`: the best model of one base so far, whichever trainer made it, as a registered model of its own.

A new version is registered where a model beats the newest version on the same held-out rows by the same metric, and
where the two cannot be compared (other data, another split or metric): the newest version is then the best by what is
asked for now. Runs that end at the same moment may both register one; the next run compares with the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from trainyard_runtime.clearml import ClearMLClient
from trainyard_trainer_worker.model_facts import metadata_of
from trainyard_trainer_worker.model_naming import best_name, metadata_items, next_version, version_of

FIELDS: Final = ("id", "name", "uri", "metadata")
BEST_TAG: Final = "best"


async def name_best(client: ClearMLClient, results: Mapping[str, Any], *, publish: bool) -> str | None:
    """Register the model of `results` as the newest `<base>-best` if it is; the new registration's id, else None.

    Harmless twice. Raises ClearMLError.
    """
    model = results["model"]
    name = best_name(str(results.get("trainer") or ""), str(model["name"]))
    project = await client.ensure_project(str(model["project"]))
    known = [m for m in await client.find_models({"project": [project]}, FIELDS) if m.get("name") == name]
    if any(m.get("uri") == model["uri"] for m in known) or not beats(results, newest(known)):
        return None
    described = {
        "version": next_version(known),
        "model_id": model["id"],
        "trainer": results.get("trainer"),
        "estimator": results.get("estimator"),
        "metric": results.get("metric"),
        "value": results.get("value"),
        "baseline": results.get("baseline"),
        "sha256": model["sha256"],
        "dataset_sha256": (results.get("dataset") or {}).get("sha256"),
        "split_sha256": (results.get("split") or {}).get("sha256"),
    }
    best = await client.create_model(
        {
            "name": name,
            "uri": model["uri"],
            "framework": model.get("framework", ""),
            "tags": sorted({*model["tags"], BEST_TAG}),
            "project": project,
            "task": (results.get("clearml") or {}).get("task_id"),
            "ready": False,
            "comment": f"The best so far: {model['name']}, version {model['version']}",
            "metadata": metadata_items(described),
        }
    )
    if publish:
        await client.publish_model(best)
    return best


def newest(models: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The model with the highest version."""
    return max(models, key=lambda model: version_of(model) or 0, default=None)


def beats(results: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether the model of `results` is better than the registered model `other`, or cannot be compared with it."""
    if other is None:
        return True
    theirs = metadata_of(other)
    same = (
        theirs.get("metric") == results.get("metric")
        and theirs.get("dataset_sha256") == (results.get("dataset") or {}).get("sha256")
        and theirs.get("split_sha256") == (results.get("split") or {}).get("sha256")
    )
    try:
        value, their_value = float(results["value"]), float(theirs["value"])
    except (KeyError, TypeError, ValueError):
        return True
    return not same or (value > their_value if results.get("greater_is_better") else value < their_value)
