"""queues.*"""

from __future__ import annotations

from typing import Any, Final

from trainyard_devstack.clearml_api.call import COMPANY, USER, Call, Handler, checked_name, new_id, updated
from trainyard_devstack.clearml_api.errors import ApiError, no_such_queue
from trainyard_devstack.clearml_api.listing import answer, listing

DEFAULT_QUEUE: Final = "default"


def load(call: Call) -> dict[str, Any]:
    """The queue that the call names. Errors: 400/12, 400/701."""
    queue_id = call.text("queue")
    queue = call.store.get("queue", queue_id)
    if queue is None:
        raise no_such_queue(queue_id)
    return queue


def find_queue(call: Call, name: str) -> dict[str, Any] | None:
    """The queue of this name."""
    found = call.store.candidates("queue", {"name": [name]})
    return next((queue for queue in found if queue["name"] == name), None)


def create_queue(call: Call, name: str, **fields: Any) -> dict[str, Any]:
    """Store a new queue. Errors: 400/800, 400/801."""
    if find_queue(call, checked_name(name)) is not None:
        raise ApiError(400, 801, f"Value combination already exists (unique field already contains this value): {name}")
    queue = {
        "id": new_id(),
        "name": name,
        "created": call.timestamp,
        "last_update": call.timestamp,
        "company": COMPANY["id"],
        "user": USER["id"],
        "tags": [],
        "system_tags": [],
        "metadata": {},
        **fields,
    }
    call.store.put("queue", queue)
    return queue


def default_queue(call: Call) -> dict[str, Any]:
    """The default queue; there is always one."""
    return find_queue(call, DEFAULT_QUEUE) or create_queue(call, DEFAULT_QUEUE, system_tags=["default"])


def create(call: Call) -> dict[str, Any]:
    return {
        "id": create_queue(call, call.text("name"), tags=call.items("tags"), system_tags=call.items("system_tags"))[
            "id"
        ]
    }


def get_default(call: Call) -> dict[str, Any]:
    queue = default_queue(call)
    return {"id": queue["id"], "name": queue["name"]}


def get_by_id(call: Call) -> dict[str, Any]:
    queue = load(call)
    return {"queue": {**queue, "entries": call.store.entries(queue["id"])}}


def get_all(call: Call) -> dict[str, Any]:
    default_queue(call)
    docs, scroll_id = listing(call, "queue")
    for queue in docs:
        queue["entries"] = call.store.entries(queue["id"])
    return answer(call, "queues", docs, scroll_id)


def get_all_ex(call: Call) -> dict[str, Any]:
    default_queue(call)
    docs, scroll_id = listing(call, "queue")
    workers = list(call.store.candidates("worker", {}))
    for queue in docs:
        queue["company"], queue["user"] = dict(COMPANY), dict(USER)
        queue["entries"] = [_with_names(call, entry) for entry in call.store.entries(queue["id"])]
        queue["workers"] = [
            {"name": worker["id"], "ip": worker.get("ip", ""), "task": worker.get("task")}
            for worker in workers
            if queue["id"] in worker.get("queues", [])
        ]
    return answer(call, "queues", docs, scroll_id)


def get_next_task(call: Call) -> dict[str, Any]:
    queue = load(call)
    entry = call.store.pop(queue["id"])
    if entry is None:
        return {}
    call.store.put("queue", {**queue, "last_update": call.timestamp})
    found: dict[str, Any] = {"entry": entry}
    if call.flag("get_task_info"):
        task = call.store.get("task", entry["task"]) or {}
        found["task_info"] = {"company": COMPANY["id"], "user": USER["id"], "project": task.get("project")}
    return found


def get_num_entries(call: Call) -> dict[str, Any]:
    return {"num": call.store.length(load(call)["id"])}


def remove_task(call: Call) -> dict[str, Any]:
    queue, task_id = load(call), call.text("task")
    removed = call.store.unqueue(task_id, queue["id"])
    if not removed:
        raise ApiError(400, 703, f"Task not in queue: task={task_id}, queue={queue['id']}")
    return {"removed": removed}


def update(call: Call) -> dict[str, Any]:
    queue = load(call)
    fields = call.given(("name", "tags", "system_tags"))
    if "name" in fields and checked_name(call.text("name")) != queue["name"] and find_queue(call, fields["name"]):
        raise ApiError(400, 801, f"Value combination already exists: {fields['name']}")
    call.store.put("queue", {**queue, **fields, "last_update": call.timestamp})
    return updated(fields)


def delete(call: Call) -> dict[str, Any]:
    queue = load(call)
    if call.store.length(queue["id"]) and not call.flag("force"):
        raise ApiError(400, 702, f"Queue not empty: id={queue['id']}")
    call.store.clear_queue(queue["id"])
    call.store.remove("queue", queue["id"])
    return {"deleted": 1}


def _with_names(call: Call, entry: dict[str, str]) -> dict[str, Any]:
    task = call.store.get("task", entry["task"]) or {}
    return {**entry, "task": {"id": entry["task"], "name": task.get("name", ""), "type": task.get("type", "")}}


CALLS: Final[dict[str, Handler]] = {
    "queues.create": create,
    "queues.get_default": get_default,
    "queues.get_by_id": get_by_id,
    "queues.get_all": get_all,
    "queues.get_all_ex": get_all_ex,
    "queues.get_next_task": get_next_task,
    "queues.get_num_entries": get_num_entries,
    "queues.remove_task": remove_task,
    "queues.update": update,
    "queues.delete": delete,
}
