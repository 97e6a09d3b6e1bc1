"""tasks.*: create, read, edit, clone. Status changes are in task_status.py."""

from __future__ import annotations

import copy
from typing import Any, Final

from trainyard_devstack.clearml_api.call import COMPANY, USER, Call, Handler, checked_name, each, new_id, updated
from trainyard_devstack.clearml_api.errors import ApiError, bad_field, invalid, no_such_task, wrong_status
from trainyard_devstack.clearml_api.listing import answer, listing
from trainyard_devstack.clearml_api.status import CREATED, allowed

STORED_AT_CREATION: Final = (
    *("comment", "tags", "system_tags", "script", "hyperparams", "configuration", "container", "runtime", "execution"),
    *("models", "input", "output_dest"),
)
EDITABLE: Final = ("name", "type", "project", "parent", *STORED_AT_CREATION)
KEPT_BY_CLONE: Final = (
    *("comment", "tags", "system_tags", "script", "hyperparams", "configuration", "container", "execution", "models"),
    *("input", "output", "project", "type"),
)


def load(call: Call, task_id: str | None = None) -> dict[str, Any]:
    """The task that the call names. Errors: 400/12, 400/101."""
    task_id = call.text("task") if task_id is None else task_id
    task = call.store.get("task", task_id)
    if task is None:
        raise no_such_task(task_id)
    return task


def save(call: Call, task: dict[str, Any]) -> None:
    """Store a changed task."""
    task["last_update"] = task["last_change"] = call.timestamp
    call.store.put("task", task)


def check_hyperparams(sections: dict[str, Any]) -> None:
    """Errors: 400/800 for a value that is no string."""
    for section, params in sections.items():
        if not isinstance(params, dict):
            raise bad_field(f"hyperparams.{section}", "expected an object")
        for name, param in params.items():
            if not isinstance(param, dict):
                raise bad_field(f"hyperparams.{section}.{name}", "expected an object")
            if not isinstance(param.get("value", ""), str):
                raise invalid(f"hyperparams.{section}.{name}.value is not a string")
            param.setdefault("section", section)
            param.setdefault("name", name)


def check_references(call: Call, project: object, parent: object) -> None:
    """Errors: 400/16 for a project or parent that does not exist."""
    for kind, value in (("project", project), ("task", parent)):
        if value and call.store.get(kind, str(value)) is None:
            raise ApiError(400, 16, f"Invalid {'project' if kind == 'project' else 'parent'} id: {value}")


def new_task(call: Call, name: str, kind: str) -> dict[str, Any]:
    """A task document with what every task has."""
    return {
        "id": new_id(),
        "name": checked_name(name),
        "type": kind,
        "status": CREATED,
        "status_reason": "",
        "status_message": "",
        "status_changed": call.timestamp,
        "created": call.timestamp,
        "last_update": call.timestamp,
        "last_change": call.timestamp,
        "company": COMPANY["id"],
        "user": USER["id"],
        "comment": "",
        "tags": [],
        "system_tags": [],
        "last_iteration": 0,
        "last_metrics": {},
        "hyperparams": {},
        "configuration": {},
        "runtime": {},
        "execution": {"artifacts": []},
        "models": {"input": [], "output": []},
        "script": {},
        "container": {},
        "output": {},
    }


def create(call: Call) -> dict[str, Any]:
    task = new_task(call, call.text("name"), call.text("type"))
    check_references(call, call.body.get("project"), call.body.get("parent"))
    check_hyperparams(call.mapping("hyperparams"))
    for field in ("project", "parent", *STORED_AT_CREATION):
        if call.body.get(field) is not None:
            task[field] = call.body[field]
    _set_output(task)
    task["execution"].setdefault("artifacts", [])
    task["models"] = {"input": [], "output": [], **task["models"]}
    call.store.put("task", task)
    return {"id": task["id"]}


def edit(call: Call) -> dict[str, Any]:
    task = load(call)
    if not allowed("edit", task["status"], force=call.flag("force")):
        raise wrong_status("edit", task["status"])
    fields = call.given(EDITABLE)
    if "name" in fields:
        checked_name(call.text("name"))
    check_references(call, fields.get("project"), fields.get("parent"))
    if fields.get("hyperparams"):
        check_hyperparams(call.mapping("hyperparams"))
    for name, value in fields.items():
        if name in ("execution", "models") and isinstance(value, dict):
            task[name] = {**task.get(name, {}), **value}
        else:
            task[name] = value
    _set_output(task)
    save(call, task)
    return updated(fields)


def update(call: Call) -> dict[str, Any]:
    task = load(call)
    fields = call.given(("name", "tags", "system_tags", "comment", "project", "created"))
    if "name" in fields:
        checked_name(call.text("name"))
    check_references(call, fields.get("project"), None)
    task.update(fields)
    save(call, task)
    return updated(fields)


def get_by_id(call: Call) -> dict[str, Any]:
    return {"task": load(call)}


def get_all(call: Call) -> dict[str, Any]:
    docs, scroll_id = listing(call, "task")
    return answer(call, "tasks", docs, scroll_id)


def get_all_ex(call: Call) -> dict[str, Any]:
    docs, scroll_id = listing(call, "task")
    for doc in docs:
        doc["company"], doc["user"] = dict(COMPANY), dict(USER)
        doc["project"] = _named(call, "project", doc.get("project"))
        doc["parent"] = _named(call, "task", doc.get("parent"))
        doc["execution"] = {**doc["execution"], "queue": _named(call, "queue", doc["execution"].get("queue"))}
    return answer(call, "tasks", docs, scroll_id)


def clone(call: Call) -> dict[str, Any]:
    source = load(call)
    task = new_task(call, call.text_or("new_task_name", f"Clone of {source['name']}"), source["type"])
    for field in KEPT_BY_CLONE:
        if field in source:
            task[field] = copy.deepcopy(source[field])
    for field in ("comment", "tags", "system_tags", "project", "hyperparams", "configuration", "container"):
        if call.body.get(f"new_task_{field}") is not None:
            task[field] = call.body[f"new_task_{field}"]
    task["parent"] = call.text_or("new_task_parent", source["id"])
    check_references(call, task.get("project"), task["parent"])
    check_hyperparams(task["hyperparams"])
    task["execution"] = {**task["execution"], **call.mapping("execution_overrides")}
    drop_outputs(task)
    call.store.put("task", task)
    return {"id": task["id"]}


def drop_outputs(task: dict[str, Any]) -> None:
    """Remove what a run of the task produced: output artifacts, output models, its queue, metrics, runtime."""
    task["execution"].pop("queue", None)
    task["execution"]["artifacts"] = [
        item for item in task["execution"].get("artifacts") or [] if item.get("mode") == "input"
    ]
    task["models"] = {**task["models"], "output": []}
    task["runtime"], task["last_metrics"], task["last_iteration"] = {}, {}, 0


def archive_many(call: Call) -> dict[str, Any]:
    return each(call.items("ids", required=True), lambda task_id: _set_archived(call, task_id, archived=True))


def unarchive_many(call: Call) -> dict[str, Any]:
    return each(call.items("ids", required=True), lambda task_id: _set_archived(call, task_id, archived=False))


def ping(call: Call) -> dict[str, Any]:
    task = load(call)
    task["last_update"] = call.timestamp
    call.store.put("task", task)
    return {}


def _set_archived(call: Call, task_id: str, *, archived: bool) -> dict[str, Any]:
    task = load(call, task_id)
    tags = [tag for tag in task.get("system_tags") or [] if tag != "archived"]
    task["system_tags"] = [*tags, "archived"] if archived else tags
    save(call, task)
    return {"archived" if archived else "unarchived": True}


def _set_output(task: dict[str, Any]) -> None:
    """What is sent as `output_dest` is shown as `output.destination`."""
    if "output_dest" in task:
        task["output"] = {**(task.get("output") or {}), "destination": task.pop("output_dest")}


def _named(call: Call, kind: str, doc_id: Any) -> dict[str, Any] | None:
    if not doc_id:
        return None
    doc = call.store.get(kind, str(doc_id))
    return {"id": doc_id} if doc is None else {"id": doc_id, "name": doc["name"]}


CALLS: Final[dict[str, Handler]] = {
    "tasks.create": create,
    "tasks.edit": edit,
    "tasks.update": update,
    "tasks.get_by_id": get_by_id,
    "tasks.get_all": get_all,
    "tasks.get_all_ex": get_all_ex,
    "tasks.clone": clone,
    "tasks.archive_many": archive_many,
    "tasks.unarchive_many": unarchive_many,
    "tasks.ping": ping,
}
