"""tasks.*: the changes of a task's status.

Only enqueue, dequeue, stop, reset and delete touch queue entries: a queued task that is `stopped` leaves a stale one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from trainyard_devstack.clearml_api.call import Call, Handler, each, updated
from trainyard_devstack.clearml_api.errors import ApiError, no_such_queue, wrong_status
from trainyard_devstack.clearml_api.queues import create_queue, default_queue, find_queue
from trainyard_devstack.clearml_api.status import CREATED, IN_PROGRESS, NEW_STATUS, QUEUED, allowed
from trainyard_devstack.clearml_api.tasks import drop_outputs, load, save

FORGOTTEN_BY_RESET: Final = ("started", "completed", "published", "active_duration", "last_worker", "enqueue_status")
STOPPING: Final = "stopping"
WORKER_IS_ALIVE_S: Final = 600.0


def started(call: Call) -> dict[str, Any]:
    try:
        task = load(call)
    except ApiError as error:
        raise ApiError(400, 10, "Invalid object id") from error
    first = task["status"] != IN_PROGRESS or not task.get("started")
    fields = _change(call, task, "started")
    if first:
        task["started"] = fields["started"] = call.timestamp
        task.pop("completed", None)
        save(call, task)
    return {**updated(fields), "started": int(first)}


def stopped(call: Call) -> dict[str, Any]:
    return updated(_finish(call, "stopped"))


def stop(call: Call) -> dict[str, Any]:
    return _stop(call, call.text("task"))


def stop_many(call: Call) -> dict[str, Any]:
    return each(call.items("ids", required=True), lambda task_id: _stop(call, task_id))


def failed(call: Call) -> dict[str, Any]:
    return updated(_finish(call, "failed"))


def completed(call: Call) -> dict[str, Any]:
    fields = _finish(call, "completed")
    if not call.flag("publish"):
        return updated(fields)
    return {**updated({**fields, **_publish(call)}), "published": 1}


def publish(call: Call) -> dict[str, Any]:
    return updated(_publish(call))


def reset(call: Call) -> dict[str, Any]:
    task = load(call)
    _check(call, task, "reset")
    dequeued = call.store.unqueue(task["id"])
    events = call.store.remove_events(task["id"])
    drop_outputs(task)
    for field in FORGOTTEN_BY_RESET:
        task.pop(field, None)
    if call.flag("clear_all"):
        task.update(hyperparams={}, configuration={}, script={})
    fields = _change(call, task, "reset")
    return {**updated(fields), "dequeued": {"removed": dequeued}, "events": {"deleted": events}, "deleted_models": 0}


def delete(call: Call) -> dict[str, Any]:
    task = load(call)
    if not allowed("delete", task["status"], force=call.flag("force")):
        raise ApiError(400, 123, f"Task cannot be deleted: status is {task['status']}")
    call.store.unqueue(task["id"])
    events = call.store.remove_events(task["id"])
    call.store.remove("task", task["id"])
    return {"deleted": True, "updated_children": 0, "updated_models": 0, "events": {"deleted": events}}


def enqueue(call: Call) -> dict[str, Any]:
    return _enqueue(call, call.text("task"))


def enqueue_many(call: Call) -> dict[str, Any]:
    _target_queue(call)
    return each(call.items("ids", required=True), lambda task_id: _enqueue(call, task_id))


def dequeue(call: Call) -> dict[str, Any]:
    task = load(call)
    waited = task["status"] == QUEUED
    if call.flag("remove_from_all_queues"):
        call.store.unqueue(task["id"])
    elif waited and task["execution"].get("queue"):
        call.store.unqueue(task["id"], task["execution"]["queue"])
    if not waited and task["status"] != IN_PROGRESS:
        return {"dequeued": 1, "updated": 0}
    status = call.text_or("new_status", "") or task.get("enqueue_status") or CREATED
    task["enqueue_status"] = None
    return {"dequeued": 1, **updated({**_set(call, task, status), "enqueue_status": None})}


def _stop(call: Call, task_id: str) -> dict[str, Any]:
    """What the UI's Abort does: a task that a worker is at is only told so, by its status message."""
    task = load(call, task_id)
    if task["status"] != QUEUED and _is_run_by_worker(call, task):
        return updated(_set(call, task, task["status"], STOPPING))
    _check(call, task, "stopped")
    if task["status"] == QUEUED and task["execution"].get("queue"):
        call.store.unqueue(task_id, task["execution"]["queue"])
    return updated(_set(call, task, NEW_STATUS["stopped"], "Stopped by a user"))


def _is_run_by_worker(call: Call, task: dict[str, Any]) -> bool:
    if "development" in (task.get("system_tags") or ()) or not task.get("last_worker"):
        return False
    silent_s = (call.now - datetime.fromisoformat(task["last_update"])).total_seconds()
    return silent_s < WORKER_IS_ALIVE_S


def _target_queue(call: Call) -> str:
    queue_id, name = call.text_or("queue", ""), call.text_or("queue_name", "")
    if queue_id:
        if call.store.get("queue", queue_id) is None:
            raise no_such_queue(queue_id)
        return queue_id
    if name:
        found = find_queue(call, name)
        return str((found or create_queue(call, name))["id"])
    return str(default_queue(call)["id"])


def _enqueue(call: Call, task_id: str) -> dict[str, Any]:
    queue_id = _target_queue(call)
    task = load(call, task_id)
    previous = task["status"]
    if previous == QUEUED and task.get("enqueue_status"):
        previous = task["enqueue_status"]
    _check(call, task, "enqueue")
    if task_id in {entry["task"] for entry in call.store.entries(queue_id)}:
        raise ApiError(400, 706, f"Task already queued: task={task_id}, queue={queue_id}")
    call.store.unqueue(task_id)
    task["execution"]["queue"] = queue_id
    task["enqueue_status"] = previous
    fields = _change(call, task, "enqueue")
    call.store.push(queue_id, task_id, call.timestamp)
    fields |= {"enqueue_status": previous, "execution.queue": queue_id}
    return {"queued": 1, **updated(fields)}


def _finish(call: Call, action: str) -> dict[str, Any]:
    task = load(call)
    fields = _change(call, task, action)
    task["completed"] = fields["completed"] = call.timestamp
    save(call, task)
    return fields


def _publish(call: Call) -> dict[str, Any]:
    task = load(call)
    fields = _change(call, task, "publish")
    task["published"] = fields["published"] = call.timestamp
    save(call, task)
    return fields


def _check(call: Call, task: dict[str, Any], action: str) -> None:
    if not allowed(action, task["status"], force=call.flag("force")):
        raise wrong_status(action, task["status"])


def _change(call: Call, task: dict[str, Any], action: str) -> dict[str, Any]:
    _check(call, task, action)
    return _set(call, task, NEW_STATUS[action])


def _set(call: Call, task: dict[str, Any], status: str, message: str | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "status": status,
        "status_reason": call.text_or("status_reason", ""),
        "status_message": call.text_or("status_message", "") if message is None else message,
        "status_changed": call.timestamp,
        "last_update": call.timestamp,
        "last_change": call.timestamp,
    }
    task.update(fields)
    save(call, task)
    return fields


CALLS: Final[dict[str, Handler]] = {
    "tasks.started": started,
    "tasks.stopped": stopped,
    "tasks.stop": stop,
    "tasks.stop_many": stop_many,
    "tasks.failed": failed,
    "tasks.completed": completed,
    "tasks.publish": publish,
    "tasks.reset": reset,
    "tasks.delete": delete,
    "tasks.enqueue": enqueue,
    "tasks.enqueue_many": enqueue_many,
    "tasks.dequeue": dequeue,
}
