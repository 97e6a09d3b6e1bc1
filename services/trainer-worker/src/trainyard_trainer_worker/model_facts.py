"""What is said about a model and its files: in the results, on the ClearML task, and as the model's metadata. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from trainyard_trainer_worker.model_naming import VERSION_KEY
from trainyard_trainer_worker.spec import Artifact

PLOTLY: Final = "application/vnd.plotly.v1+json"
"""The content type of a figure that ClearML shows as a plot."""

MAX_PLOT_BYTES: Final = 256 << 10
LINKED: Final = ("metrics", "leaderboard", "feature_importance", "confusion_matrix", "roc_curve", "residuals")
"""The artifacts whose addresses are among a model's metadata."""


def artifact_entry(artifact: Artifact, uri: str) -> dict[str, Any]:
    """One of `results.artifacts`; `bytes` is the file's size."""
    return {
        "name": artifact.name,
        "uri": uri,
        "content_type": artifact.content_type,
        "sha256": artifact.sha256,
        "bytes": artifact.size_bytes,
    }


def artifact_record(artifact: Artifact, uri: str, timestamp: int) -> dict[str, Any]:
    """The same in the shape that tasks.add_or_update_artifacts takes; `timestamp` in seconds since the epoch."""
    return {
        "key": artifact.name,
        "type": "custom",
        "mode": "output",
        "uri": uri,
        "content_size": artifact.size_bytes,
        "hash": artifact.sha256,
        "timestamp": timestamp,
        "type_data": {"content_type": artifact.content_type},
    }


def metadata_of(model: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a registered model as names and values."""
    items = model.get("metadata") or {}
    return {
        str(name): str(item["value"]) for name, item in items.items() if isinstance(item, Mapping) and "value" in item
    }


def model_metadata(
    run_id: str,
    attempt: int,
    claim: str,
    results: Mapping[str, Any],
    model_sha256: str,
    version: int,
    artifacts: Iterable[Mapping[str, Any]] = (),
) -> dict[str, object]:
    """What is known of a model without opening it: its origin, its figures on the held-out part, and where its reports
    are. Values may be None."""
    figures = results.get("metrics") or {}
    return {
        VERSION_KEY: version,
        "run_id": run_id,
        "attempt": attempt,
        "claim": claim,
        "trainer": results.get("trainer"),
        "estimator": results.get("estimator"),
        "metric": results.get("metric"),
        "value": results.get("value"),
        "baseline": results.get("baseline"),
        **{f"metrics.{name}": figures[name] for name in sorted(figures)},
        "sha256": model_sha256,
        "dataset_sha256": (results.get("dataset") or {}).get("sha256"),
        "split_sha256": (results.get("split") or {}).get("sha256"),
        **{f"artifacts.{entry['name']}": entry["uri"] for entry in artifacts if entry["name"] in LINKED},
    }
