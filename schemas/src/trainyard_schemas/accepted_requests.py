"""The shape of the request in a `run.accepted`: whoever can write to the log can write one that intake never saw.

Fields may be added by later versions, and what intake checks of values is not checked again; but what the planner and
the workers read has the type that they read it as.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainyard_schemas.errors import FieldError

_NUMBER = (int, float)
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("trainer", "task_type", "run_name", "project", "queue", "metric", "dataset_ref"), str),
    **dict.fromkeys(("dataset", "dataset.clearml", "split", "retry", "extras"), dict),
    **dict.fromkeys(("tags", "group_key", "retry.on"), list),
    **dict.fromkeys(("priority", "retry.max_attempts"), int),
    **dict.fromkeys(("time_budget_s", "queue_ttl_s", "deadline_s", "retry.backoff_s"), _NUMBER),
}


def wrong_field(request: Mapping[str, Any]) -> FieldError | None:
    """The first field that nobody could work with; None for a request such as intake writes it."""
    if not request.get("trainer"):
        return FieldError("request.trainer", "is missing")
    for path, types in _TYPES.items():
        outer, _, inner = path.rpartition(".")
        value = ((request.get(outer) or {}) if outer else request).get(inner)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            return FieldError(f"request.{path}", "is of a wrong type")
    return None
