"""workers.*"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from trainyard_devstack.clearml_api.call import COMPANY, USER, Call, Handler
from trainyard_devstack.clearml_api.errors import bad_field, no_such_task

DEFAULT_TIMEOUT_S: Final = 600


def register(call: Call) -> dict[str, Any]:
    worker = call.text("worker")
    doc = {
        "id": worker,
        "company": dict(COMPANY),
        "user": dict(USER),
        "register_time": call.timestamp,
        "register_timeout": call.number("timeout", DEFAULT_TIMEOUT_S),
        "last_activity_time": call.timestamp,
        "last_report_time": call.timestamp,
        "queues": call.items("queues"),
        "tags": call.items("tags"),
        "system_tags": call.items("system_tags"),
        "task": None,
    }
    call.store.put("worker", doc)
    return {}


def status_report(call: Call) -> dict[str, Any]:
    worker = call.text("worker")
    if "timestamp" not in call.body:
        raise bad_field("timestamp", "field is required")
    doc = call.store.get("worker", worker)
    if doc is None:
        register(call)
        doc = call.store.get("worker", worker) or {}
    doc["last_report_time"] = doc["last_activity_time"] = call.timestamp
    doc["task"] = call.body.get("task")
    doc["queue"] = call.body.get("queue")
    doc["machine_stats"] = call.body.get("machine_stats")
    for field in ("queues", "tags"):
        if call.body.get(field) is not None:
            doc[field] = call.items(field)
    call.store.put("worker", doc)
    if doc["task"]:
        task = call.store.get("task", str(doc["task"]))
        if task is None:
            raise no_such_task(str(doc["task"]))
        task.update(last_worker=worker, last_worker_report=call.timestamp, last_update=call.timestamp)
        call.store.put("task", task)
    return {}


def unregister(call: Call) -> dict[str, Any]:
    call.store.remove("worker", call.text("worker"))
    return {}


def get_all(call: Call) -> dict[str, Any]:
    last_seen_s = call.number("last_seen", 3600)
    workers = [worker for worker in call.store.candidates("worker", {}) if _alive(call, worker, last_seen_s)]
    return {"workers": [_shown(call, worker) for worker in workers]}


def _alive(call: Call, worker: dict[str, Any], last_seen_s: int) -> bool:
    silent_s = (call.now - datetime.fromisoformat(worker["last_activity_time"])).total_seconds()
    return bool(silent_s <= min(worker["register_timeout"], last_seen_s or worker["register_timeout"]))


def _shown(call: Call, worker: dict[str, Any]) -> dict[str, Any]:
    shown = {
        **worker,
        "queues": [_queue_entry(call, queue_id) for queue_id in worker["queues"]],
        "queue": _queue_entry(call, worker["queue"]) if worker.get("queue") else None,
    }
    task = call.store.get("task", str(worker["task"])) if worker.get("task") else None
    shown["task"] = None if task is None else {"id": task["id"], "name": task["name"]}
    return shown


def _queue_entry(call: Call, queue_id: Any) -> dict[str, Any]:
    """A queue that is gone keeps its id only."""
    queue = call.store.get("queue", str(queue_id))
    if queue is None:
        return {"id": str(queue_id)}
    return {"id": queue["id"], "name": queue["name"], "num_tasks": call.store.length(queue["id"])}


CALLS: Final[dict[str, Handler]] = {
    "workers.register": register,
    "workers.status_report": status_report,
    "workers.unregister": unregister,
    "workers.get_all": get_all,
}
