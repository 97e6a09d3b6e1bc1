"""projects.*"""

from __future__ import annotations

from typing import Any, Final

from trainyard_devstack.clearml_api.call import COMPANY, USER, Call, Handler, checked_name, new_id, updated
from trainyard_devstack.clearml_api.errors import ApiError
from trainyard_devstack.clearml_api.listing import answer, listing

EDITABLE: Final = ("description", "tags", "system_tags", "default_output_destination")


def load(call: Call) -> dict[str, Any]:
    """The project that the call names. Errors: 400/12, 400/16."""
    project_id = call.text("project")
    project = call.store.get("project", project_id)
    if project is None:
        raise ApiError(400, 16, f"Invalid project id: id={project_id}")
    return project


def create(call: Call) -> dict[str, Any]:
    name = checked_name(call.text("name").strip("/"))
    if _find(call, name) is not None:
        raise ApiError(400, 801, f"Value combination already exists (unique field already contains this value): {name}")
    fields = {field: call.body[field] for field in EDITABLE if call.body.get(field) is not None}
    return {"id": _create(call, name, fields)["id"]}


def get_all(call: Call) -> dict[str, Any]:
    docs, scroll_id = listing(call, "project")
    return answer(call, "projects", docs, scroll_id)


def get_all_ex(call: Call) -> dict[str, Any]:
    docs, scroll_id = listing(call, "project")
    for project in docs:
        project["company"], project["user"] = dict(COMPANY), dict(USER)
        statuses: dict[str, int] = {}
        for task in call.store.candidates("task", {"project": [project["id"]]}):
            statuses[task["status"]] = statuses.get(task["status"], 0) + 1
        project["stats"] = {"active": {"status_count": statuses, "total_tasks": sum(statuses.values())}}
    return answer(call, "projects", docs, scroll_id)


def get_by_id(call: Call) -> dict[str, Any]:
    return {"project": load(call)}


def update(call: Call) -> dict[str, Any]:
    project = load(call)
    fields = call.given(("name", *EDITABLE))
    if "name" in fields and checked_name(call.text("name")) != project["name"] and _find(call, fields["name"]):
        raise ApiError(400, 801, f"Value combination already exists: {fields['name']}")
    call.store.put("project", {**project, **fields, "last_update": call.timestamp})
    return updated(fields)


def delete(call: Call) -> dict[str, Any]:
    project = load(call)
    tasks = list(call.store.candidates("task", {"project": [project["id"]]}))
    if tasks and not call.flag("force"):
        raise ApiError(400, 16, f"Project has associated tasks: id={project['id']}")
    for task in tasks:
        task.pop("project")
        call.store.put("task", task)
    call.store.remove("project", project["id"])
    return {"deleted": 1, "disassociated_tasks": len(tasks), "deleted_tasks": 0, "deleted_models": 0}


def _find(call: Call, name: str) -> dict[str, Any] | None:
    return next((one for one in call.store.candidates("project", {"name": [name]}) if one["name"] == name), None)


def _create(call: Call, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    parent_name, _, basename = name.rpartition("/")
    parent = (_find(call, parent_name) or _create(call, parent_name, {})) if parent_name else None
    project = {
        "id": new_id(),
        "name": name,
        "basename": basename,
        "description": "",
        "created": call.timestamp,
        "last_update": call.timestamp,
        "company": COMPANY["id"],
        "user": USER["id"],
        "tags": [],
        "system_tags": [],
        "parent": None if parent is None else parent["id"],
        **fields,
    }
    call.store.put("project", project)
    return project


CALLS: Final[dict[str, Handler]] = {
    "projects.create": create,
    "projects.get_all": get_all,
    "projects.get_all_ex": get_all_ex,
    "projects.get_by_id": get_by_id,
    "projects.update": update,
    "projects.delete": delete,
}
