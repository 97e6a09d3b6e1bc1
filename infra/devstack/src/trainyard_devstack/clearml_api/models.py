"""models.*"""

from __future__ import annotations

from typing import Any, Final

from trainyard_devstack.clearml_api.call import COMPANY, USER, Call, Handler, checked_name, each, new_id, updated
from trainyard_devstack.clearml_api.errors import ApiError, bad_field
from trainyard_devstack.clearml_api.listing import answer, listing
from trainyard_devstack.clearml_api.tasks import check_references

EDITABLE: Final = (
    *("name", "uri", "comment", "tags", "system_tags", "framework", "design", "labels", "ready", "project", "parent"),
    *("task", "metadata", "ui_cache"),
)
NO_SUCH_MODEL: Final = 201


def load(call: Call, model_id: str | None = None) -> dict[str, Any]:
    """The model that the call names. Errors: 400/12, 400/201."""
    model_id = call.text("model") if model_id is None else model_id
    model = call.store.get("model", model_id)
    if model is None:
        raise ApiError(400, NO_SUCH_MODEL, f"Invalid model id: id={model_id}")
    return model


def create(call: Call) -> dict[str, Any]:
    model = {
        "id": new_id(),
        "name": checked_name(call.text("name")),
        "uri": call.text("uri"),
        "created": call.timestamp,
        "last_update": call.timestamp,
        "company": COMPANY["id"],
        "user": USER["id"],
        "comment": "",
        "tags": [],
        "system_tags": [],
        "framework": None,
        "labels": {},
        "design": {},
        "metadata": {},
        "ready": True,
        "project": None,
        "task": None,
        "parent": None,
        **{field: call.body[field] for field in EDITABLE if call.body.get(field) is not None},
    }
    _check_metadata(model)
    check_references(call, model["project"], None)
    call.store.put("model", model)
    return {"id": model["id"], "created": True}


def edit(call: Call) -> dict[str, Any]:
    model = load(call)
    fields = call.given(EDITABLE)
    if "name" in fields:
        checked_name(call.text("name"))
    _check_metadata(fields)
    check_references(call, fields.get("project"), None)
    model.update(fields, last_update=call.timestamp)
    call.store.put("model", model)
    return updated(fields)


def get_by_id(call: Call) -> dict[str, Any]:
    return {"model": load(call)}


def get_all(call: Call) -> dict[str, Any]:
    docs, scroll_id = listing(call, "model")
    return answer(call, "models", docs, scroll_id)


def get_all_ex(call: Call) -> dict[str, Any]:
    docs, scroll_id = listing(call, "model")
    for model in docs:
        model["company"], model["user"] = dict(COMPANY), dict(USER)
        for field in ("project", "task"):
            found = call.store.get(field, str(model[field])) if model.get(field) else None
            model[field] = {"id": found["id"], "name": found["name"]} if found else None
    return answer(call, "models", docs, scroll_id)


def set_ready(call: Call) -> dict[str, Any]:
    model = load(call)
    model.update(ready=True, last_update=call.timestamp)
    call.store.put("model", model)
    return {"updated": 1}


def publish_many(call: Call) -> dict[str, Any]:
    def publish(model_id: str) -> dict[str, Any]:
        call.store.put("model", {**load(call, model_id), "ready": True, "last_update": call.timestamp})
        return {"updated": 1}

    return each(call.items("ids", required=True), publish)


def archive_many(call: Call) -> dict[str, Any]:
    def archive(model_id: str) -> dict[str, Any]:
        model = load(call, model_id)
        model["system_tags"] = sorted({*model["system_tags"], "archived"})
        call.store.put("model", model)
        return {"archived": True}

    return each(call.items("ids", required=True), archive)


def delete(call: Call) -> dict[str, Any]:
    model = load(call)
    call.store.remove("model", model["id"])
    return {"deleted": True, "url": model["uri"]}


def add_or_update_metadata(call: Call) -> dict[str, Any]:
    model = load(call)
    if call.flag("replace_metadata"):
        model["metadata"] = {}
    for item in call.items("metadata", required=True):
        model["metadata"][item["key"]] = item
    call.store.put("model", {**model, "last_update": call.timestamp})
    return {"updated": 1}


def _check_metadata(fields: dict[str, Any]) -> None:
    """Metadata is `{key, type, value}` by key; only add_or_update_metadata takes a list. Errors: 400/12."""
    if not isinstance(fields.get("metadata", {}), dict):
        raise bad_field("metadata", "expected an object")


CALLS: Final[dict[str, Handler]] = {
    "models.create": create,
    "models.edit": edit,
    "models.update": edit,
    "models.get_by_id": get_by_id,
    "models.get_all": get_all,
    "models.get_all_ex": get_all_ex,
    "models.set_ready": set_ready,
    "models.publish_many": publish_many,
    "models.archive_many": archive_many,
    "models.delete": delete,
    "models.add_or_update_metadata": add_or_update_metadata,
}
