"""events.*: console, scalars, plots."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from trainyard_devstack.clearml_api.call import Call, Handler, new_id
from trainyard_devstack.clearml_api.errors import ApiError, bad_field, no_such_task

SCALAR, LOG, PLOT, VECTOR, IMAGE = (
    "training_stats_scalar",
    "log",
    "plot",
    "training_stats_vector",
    "training_debug_image",
)
TYPES: Final = (SCALAR, LOG, PLOT, VECTOR, IMAGE)

SINGLE_VALUE_ITERATION: Final = -(2**31)
"""The iteration under which the SDK reports a value that has no curve."""

MOST_POINTS: Final = 6000


def add_batch(call: Call) -> dict[str, Any]:
    if not call.lines:
        raise ApiError(400, 17, "No events to add: the batch is empty")
    tasks: dict[str, dict[str, Any] | None] = {}
    good: list[tuple[str, str, dict[str, Any]]] = []
    problems: dict[str, int] = {}
    for event in call.lines:
        problem = _problem(call, event, tasks)
        if problem:
            problems[problem] = problems.get(problem, 0) + 1
        else:
            event.setdefault("timestamp", int(call.now.timestamp() * 1000))
            event["@timestamp"] = call.timestamp
            good.append((event["task"], event["type"], event))
    if not good:
        raise ApiError(400, 131, f"No event was added: {'; '.join(problems)}")
    for task_id, kind, event in good:
        _note(tasks[task_id] or {}, kind, event)
    for task_id in {task_id for task_id, _, _ in good}:
        call.store.put("task", {**(tasks[task_id] or {}), "last_update": call.timestamp})
    call.store.add_events(good)
    return {"added": len(good), "errors": sum(problems.values()), "errors_info": problems}


def get_task_log(call: Call) -> dict[str, Any]:
    events = _sorted(call, _task_id(call), LOG)
    since = call.body.get("from_timestamp")
    size = call.number("batch_size", 500)
    earlier = bool(call.body.get("navigate_earlier", True))
    total = len(events)
    if since is not None:
        events = [one for one in events if (one["timestamp"] < since if earlier else one["timestamp"] > since)]
    events = (events[-size:] if size else []) if earlier else events[:size]
    if call.text_or("order", "desc" if earlier else "asc") == "desc":
        events = events[::-1]
    return {"events": events, "returned": len(events), "total": total}


def get_task_events(call: Call) -> dict[str, Any]:
    events = _sorted(call, _task_id(call), call.body.get("event_type"))
    if call.text_or("order", "asc") == "desc":
        events = events[::-1]
    size = call.number("batch_size", call.number("count", 500))
    scroll_id = call.text_or("scroll_id", "") or f"{new_id()}:0"
    name, _, offset_text = scroll_id.partition(":")
    offset = int(offset_text) if offset_text.isdigit() else 0
    page = events[offset : offset + size]
    return {
        "events": page,
        "returned": len(page),
        "total": len(events),
        "scroll_id": f"{name}:{offset + len(page)}",
    }


def get_task_plots(call: Call) -> dict[str, Any]:
    newest = call.number("iters", 1)
    by_name: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in _sorted(call, _task_id(call), PLOT):
        by_name.setdefault((event.get("metric", ""), event.get("variant", "")), []).append(event)
    plots = [
        event
        for events in by_name.values()
        for event in sorted(events, key=lambda one: one.get("iter", 0), reverse=True)[:newest]
    ]
    return {"plots": plots, "returned": len(plots), "total": len(plots), "scroll_id": new_id()}


def scalar_metrics_iter_histogram(call: Call) -> dict[str, Any]:
    key = call.text_or("key", "iter")
    most = call.number("samples", MOST_POINTS) or MOST_POINTS
    curves: dict[str, dict[str, dict[str, Any]]] = {}
    for event in _sorted(call, _task_id(call), SCALAR):
        if event.get("iter") == SINGLE_VALUE_ITERATION:
            continue
        at = event.get("iter", 0) if key == "iter" else event["timestamp"]
        variants = curves.setdefault(event.get("metric", ""), {})
        curve = variants.setdefault(event.get("variant", ""), {"name": event.get("variant", ""), "x": [], "y": []})
        curve["x"].append(at)
        curve["y"].append(event.get("value"))
    for variants in curves.values():
        for curve in variants.values():
            step = -(-len(curve["x"]) // most)
            curve["x"], curve["y"] = curve["x"][::step], curve["y"][::step]
    return curves


def get_task_single_value_metrics(call: Call) -> dict[str, Any]:
    found = []
    for task_id in call.items("tasks", required=True):
        values = {
            (event.get("metric"), event.get("variant")): {
                name: event.get(name) for name in ("metric", "variant", "value", "timestamp", "iter")
            }
            for event in _sorted(call, str(task_id), SCALAR)
            if event.get("iter") == SINGLE_VALUE_ITERATION
        }
        task = call.store.get("task", str(task_id)) or {}
        found.append({"task": task_id, "task_name": task.get("name"), "values": list(values.values())})
    return {"tasks": found}


def metric_key(name: str) -> str:
    """The key of a metric or variant in a task's `last_metrics`: MD5, as the SDK computes it too."""
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _task_id(call: Call) -> str:
    task_id = call.text("task")
    if call.store.get("task", task_id) is None:
        raise no_such_task(task_id)
    return task_id


def _sorted(call: Call, task_id: str, kind: Any) -> list[dict[str, Any]]:
    if kind is not None and not isinstance(kind, str):
        raise bad_field("event_type", "expected str")
    return sorted(call.store.events(task_id, kind), key=lambda event: event.get("timestamp", 0))


def _problem(call: Call, event: Any, tasks: dict[str, dict[str, Any] | None]) -> str:
    if not isinstance(event, dict):
        return "event is not an object"
    if event.get("type") not in TYPES:
        return "invalid event type"
    task_id = event.get("task")
    if not isinstance(task_id, str) or not task_id:
        return "event has no task"
    if task_id not in tasks:
        tasks[task_id] = call.store.get("task", task_id)
    return "" if tasks[task_id] is not None else "task ids not found"


def _note(task: dict[str, Any], kind: str, event: dict[str, Any]) -> None:
    """Keep the task's `last_iteration` and `last_metrics` up to date."""
    iteration = event.get("iter")
    if isinstance(iteration, int) and iteration > task["last_iteration"]:
        task["last_iteration"] = iteration
    value = event.get("value")
    if kind != SCALAR or not isinstance(value, int | float):
        return
    metric, variant = str(event.get("metric", "")), str(event.get("variant", ""))
    variants = task["last_metrics"].setdefault(metric_key(metric), {})
    last = variants.get(metric_key(variant), {"min_value": value, "max_value": value})
    variants[metric_key(variant)] = {
        "metric": metric,
        "variant": variant,
        "value": value,
        "min_value": min(last["min_value"], value),
        "max_value": max(last["max_value"], value),
    }


CALLS: Final[dict[str, Handler]] = {
    "events.add_batch": add_batch,
    "events.get_task_log": get_task_log,
    "events.get_task_events": get_task_events,
    "events.get_task_plots": get_task_plots,
    "events.scalar_metrics_iter_histogram": scalar_metrics_iter_histogram,
    "events.get_task_single_value_metrics": get_task_single_value_metrics,
}
