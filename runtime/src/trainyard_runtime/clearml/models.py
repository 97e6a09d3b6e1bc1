"""The calls on models and events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard_runtime.clearml.calls import Calls
from trainyard_runtime.clearml.values import AddedEvents


class ModelCalls(Calls):
    """Registered models."""

    async def create_model(self, body: Mapping[str, Any]) -> str:
        """Register a model (`name`, `uri`, `framework`, `tags`, `task`, `project`, `metadata`) and return its id."""
        return str((await self._transport.effect("models.create", body))["id"])

    async def edit_model(self, model_id: str, fields: Mapping[str, Any]) -> None:
        """Replace top-level fields of a model."""
        await self._transport.effect("models.edit", {**fields, "model": model_id})

    async def publish_model(self, model_id: str) -> None:
        """Make a model `ready` (published); its task's status is not touched."""
        await self._transport.effect("models.set_ready", {"model": model_id, "publish_task": False})

    async def get_model(self, model_id: str, only_fields: Sequence[str] = ()) -> dict[str, Any] | None:
        """A model, or the named fields of it; None if there is none."""
        body: dict[str, Any] = {"id": [model_id]}
        if only_fields:
            body["only_fields"] = [*only_fields]
        found = (await self._transport.read("models.get_all", body)).get("models") or []
        return found[0] if found else None

    async def find_models(self, filters: Mapping[str, Any], only_fields: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The first 500 models that match ClearML's filters."""
        body: dict[str, Any] = {**filters, "page": 0, "page_size": 500}
        if only_fields:
            body["only_fields"] = [*only_fields]
        return list((await self._transport.read("models.get_all", body)).get("models") or [])

    async def delete_model(self, model_id: str, *, force: bool = False) -> None:
        """Delete a model's registration; the file stays."""
        await self._transport.effect("models.delete", {"model": model_id, "force": force})


class EventCalls(Calls):
    """Console lines, scalars and plots. Build events with the functions below."""

    async def task_log(self, task_id: str, *, after_ms: int | None = None, limit: int = 500) -> list[dict[str, Any]]:
        """At most `limit` console events of a task, oldest first (`timestamp` in ms, `msg`): its first ones, or the
        first that are younger than `after_ms`."""
        body: dict[str, Any] = {"task": task_id, "batch_size": limit, "navigate_earlier": False, "order": "asc"}
        if after_ms is not None:
            body["from_timestamp"] = after_ms
        return list((await self._transport.read("events.get_task_log", body)).get("events") or [])

    async def add_events(self, events: Sequence[Mapping[str, Any]]) -> AddedEvents:
        """Store a batch; refused with `Subcode.EMPTY_BATCH` or `NO_EVENT_ADDED`, else possibly in part."""
        lines = b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)
        data = await self._transport.effect_lines("events.add_batch", lines)
        return AddedEvents(int(data.get("added") or 0), int(data.get("errors") or 0), data.get("errors_info"))


def log_event(task_id: str, text: str, *, timestamp_ms: int, worker: str = "", level: str = "info") -> dict[str, Any]:
    """Console output of a task; `text` may hold several lines."""
    return {
        "type": "log",
        "task": task_id,
        "timestamp": timestamp_ms,
        "level": level,
        "worker": worker,
        "msg": text,
    }


def scalar_event(
    task_id: str, metric: str, variant: str, value: float, *, iteration: int, timestamp_ms: int, worker: str = ""
) -> dict[str, Any]:
    """One point of the curve `variant` in the plot `metric`."""
    return {
        "type": "training_stats_scalar",
        "task": task_id,
        "timestamp": timestamp_ms,
        "iter": iteration,
        "metric": metric,
        "variant": variant,
        "value": value,
        "worker": worker,
    }


def plot_event(
    task_id: str, metric: str, variant: str, figure_json: str, *, iteration: int, timestamp_ms: int
) -> dict[str, Any]:
    """A plot; `figure_json` is a Plotly figure as JSON."""
    return {
        "type": "plot",
        "task": task_id,
        "timestamp": timestamp_ms,
        "iter": iteration,
        "metric": metric,
        "variant": variant,
        "plot_str": figure_json,
    }
