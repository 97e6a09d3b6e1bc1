"""A user's clone of one of our tasks becomes a run of its own: which one, and what it asks for. Pure.

The clone copies the original's parameters, has a `parent` and another id (architecture, rule 8). Its run's id follows
from its task id, so whoever pops it, and however often, means the same run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trainyard_schemas.ids import run_id_from_event
from trainyard_schemas.vocabulary import CLONE_SOURCE

_SPLIT = {"split_method": "method", "test_size": "test_size", "random_seed": "random_seed"}
_RUN = ("trainer", "metric", "task_type", "time_budget_s", "group_key", "priority", "deadline_s", "queue_ttl_s")
_DATA = ("type", "uri", "label", "path", "yaml_path")
_TEXTS = frozenset({"trainer", "metric", "task_type", "split_method", *_DATA})


def run_of_clone(tenant: str, task_id: str) -> str:
    """The run that a clone is."""
    return run_id_from_event(tenant, CLONE_SOURCE, task_id)


def request_of_clone(
    original: Mapping[str, Any], parameters: Mapping[str, Mapping[str, str]], name: str, queue: str
) -> dict[str, Any]:
    """The request that a clone asks for: the original's, with what its user changed in `Run/*` and `Dataset/*`.

    A parameter that cannot be read as what it was is passed on as the text that it is, and refused by intake by name.
    """
    run, data = parameters.get("Run", {}), parameters.get("Dataset", {})
    request = {k: v for k, v in original.items() if k not in ("idempotency_key", "retry_of") and v is not None}
    request |= {field: _value(field, run[field]) for field in _RUN if field in run}
    split = dict(request.get("split") or {})
    split |= {field: _value(key, run[key]) for key, field in _SPLIT.items() if key in run}
    dataset = {k: v for k, v in (request.get("dataset") or {}).items() if v is not None}
    dataset |= {field: data[field] for field in _DATA if field in data}
    return {**request, "split": split, "dataset": dataset, "run_name": name, "queue": queue}


def _value(field: str, text: str) -> Any:
    if field in _TEXTS:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
