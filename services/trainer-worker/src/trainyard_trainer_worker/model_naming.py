"""How models are named and versioned, and where an attempt's files lie. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

MODEL_PROJECT_SUFFIX: Final = "-Models"
BEST_SUFFIX: Final = "-best"
VERSION_KEY: Final = "version"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def model_name(trainer: str, run_name: str) -> str:
    """`<run name>-<trainer>`, such as wine-flaml; a run name that holds the trainer's name already stays, such as
    flaml-demo-run."""
    return run_name if trainer in re.split(r"[^a-z0-9]+", run_name.lower()) else f"{run_name}-{trainer}"


def best_name(trainer: str, name: str) -> str:
    """`<base>-best`, where the base is a model's name without its trainer: wine-best for wine-flaml and wine-sklearn,
    demo-run-best for flaml-demo-run."""
    trainers_name = rf"(?i)(^|[^a-z0-9]+){re.escape(trainer)}($|[^a-z0-9]+)"
    base = re.sub(trainers_name, "-", name, count=1).strip("-")
    return f"{base or name}{BEST_SUFFIX}"


def model_project(project: str) -> str:
    """The project that a project's models are registered in: AutoML-Models for AutoML."""
    return f"{project}{MODEL_PROJECT_SUFFIX}"


def attempt_path(run_id: str, attempt: int, claim: str, file_name: str) -> str:
    """Where a file of an attempt lies on the file server: another attempt, or claim, can never overwrite it."""
    return f"trainyard/runs/{run_id}/{attempt}/{claim}/{_UNSAFE.sub('_', file_name)}"


def version_of(model: Mapping[str, Any]) -> int | None:
    """The version in a registered model's metadata, or None."""
    item = (model.get("metadata") or {}).get(VERSION_KEY)
    value = item.get("value") if isinstance(item, Mapping) else None
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else None


def next_version(models: Iterable[Mapping[str, Any]]) -> int:
    """One more than the highest version among models of one name; 1 for the first.

    Two attempts that end at the same moment may get the same version: the id tells them apart.
    """
    return 1 + max((version_of(model) or 0 for model in models), default=0)


def metadata_items(values: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Metadata in the shape that models.create takes: items by their keys; values that are None are left out."""
    return {
        key: {"key": key, "type": "str", "value": value if isinstance(value, str) else f"{value}"}
        for key, value in values.items()
        if value is not None
    }
