"""tasks.*: the parts of a task that have calls of their own (hyperparameters, configuration, artifacts, models)."""

from __future__ import annotations

from typing import Any, Final

from trainyard_devstack.clearml_api.call import Call, Handler
from trainyard_devstack.clearml_api.errors import bad_field, invalid, wrong_status
from trainyard_devstack.clearml_api.status import allowed
from trainyard_devstack.clearml_api.tasks import load, save


def get_hyper_params(call: Call) -> dict[str, Any]:
    params = []
    for task_id in call.items("tasks", required=True):
        task = call.store.get("task", str(task_id))
        if task is not None:
            items = [param for section in task["hyperparams"].values() for param in section.values()]
            params.append({"task": task["id"], "hyperparams": items})
    return {"params": params}


def edit_hyper_params(call: Call) -> dict[str, Any]:
    task = _editable(call)
    items = call.items("hyperparams", required=True)
    for item in items:
        if not isinstance(item, dict) or not item.get("name"):
            raise bad_field("hyperparams", "each needs a name")
        item["section"] = item.get("section") or "Args"
        if not isinstance(item.get("value", ""), str):
            raise invalid(f"hyperparams.{item['section']}.{item['name']}.value is not a string")
    match call.body.get("replace_hyperparams"):
        case "all":
            task["hyperparams"] = {}
        case "section":
            for item in items:
                task["hyperparams"].pop(item["section"], None)
    for item in items:
        task["hyperparams"].setdefault(item["section"], {})[item["name"]] = item
    save(call, task)
    return {"updated": 1}


def delete_hyper_params(call: Call) -> dict[str, Any]:
    task = _editable(call)
    for item in call.items("hyperparams", required=True):
        section = task["hyperparams"].get(item.get("section"), {})
        if item.get("name"):
            section.pop(item["name"], None)
        if not section or not item.get("name"):
            task["hyperparams"].pop(item.get("section"), None)
    save(call, task)
    return {"deleted": 1}


def get_configurations(call: Call) -> dict[str, Any]:
    names = call.items("names")
    found = []
    for task_id in call.items("tasks", required=True):
        task = call.store.get("task", str(task_id))
        if task is not None:
            items = [item for name, item in task["configuration"].items() if not names or name in names]
            found.append({"task": task["id"], "configuration": items})
    return {"configurations": found}


def edit_configuration(call: Call) -> dict[str, Any]:
    task = _editable(call)
    items = call.items("configuration", required=True)
    if call.flag("replace_configuration"):
        task["configuration"] = {}
    for item in items:
        task["configuration"][item["name"]] = item
    save(call, task)
    return {"updated": 1}


def delete_configuration(call: Call) -> dict[str, Any]:
    task = _editable(call)
    for name in call.items("configuration", required=True):
        task["configuration"].pop(name, None)
    save(call, task)
    return {"deleted": 1}


def set_requirements(call: Call) -> dict[str, Any]:
    task = load(call)
    requirements = call.mapping("requirements")
    task["script"] = {**(task.get("script") or {}), "requirements": requirements}
    save(call, task)
    return {"updated": 1, "fields": {"script.requirements": requirements}}


def add_or_update_artifacts(call: Call) -> dict[str, Any]:
    task = load(call)
    artifacts = {(item["key"], item.get("mode", "output")): item for item in task["execution"]["artifacts"]}
    for item in call.items("artifacts", required=True):
        if not isinstance(item, dict) or not item.get("key"):
            raise bad_field("artifacts", "each needs a key")
        item.setdefault("mode", "output")
        artifacts[(item["key"], item["mode"])] = item
    task["execution"]["artifacts"] = list(artifacts.values())
    save(call, task)
    return {"updated": 1}


def delete_artifacts(call: Call) -> dict[str, Any]:
    task = load(call)
    gone = {(item.get("key"), item.get("mode", "output")) for item in call.items("artifacts", required=True)}
    task["execution"]["artifacts"] = [
        item for item in task["execution"]["artifacts"] if (item["key"], item.get("mode", "output")) not in gone
    ]
    save(call, task)
    return {"deleted": 1}


def add_or_update_model(call: Call) -> dict[str, Any]:
    task = load(call)
    kind, name, model = call.text("type"), call.text("name"), call.text("model")
    if kind not in ("input", "output"):
        raise bad_field("type", "expected input or output")
    if call.store.get("model", model) is None:
        raise bad_field("model", f"no such model: {model}")
    others = [item for item in task["models"].get(kind) or [] if item.get("name") != name]
    task["models"][kind] = [*others, {"name": name, "model": model}]
    if call.body.get("iteration") is not None:
        task["last_iteration"] = max(task["last_iteration"], call.number("iteration", 0))
    save(call, task)
    return {"updated": 1}


def delete_models(call: Call) -> dict[str, Any]:
    task = load(call)
    for item in call.items("models", required=True):
        kind = item.get("type", "output")
        task["models"][kind] = [one for one in task["models"].get(kind) or [] if one.get("name") != item.get("name")]
    save(call, task)
    return {"updated": 1}


def _editable(call: Call) -> dict[str, Any]:
    task = load(call)
    if not allowed("edit_hyper_params", task["status"], force=call.flag("force")):
        raise wrong_status("edit", task["status"])
    return task


CALLS: Final[dict[str, Handler]] = {
    "tasks.get_hyper_params": get_hyper_params,
    "tasks.edit_hyper_params": edit_hyper_params,
    "tasks.delete_hyper_params": delete_hyper_params,
    "tasks.get_configurations": get_configurations,
    "tasks.edit_configuration": edit_configuration,
    "tasks.delete_configuration": delete_configuration,
    "tasks.set_requirements": set_requirements,
    "tasks.add_or_update_artifacts": add_or_update_artifacts,
    "tasks.delete_artifacts": delete_artifacts,
    "tasks.add_or_update_model": add_or_update_model,
    "tasks.delete_models": delete_models,
}
