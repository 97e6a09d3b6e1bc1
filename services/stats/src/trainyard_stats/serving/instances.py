"""How many instances of clearml-serving are alive, by the tasks that they keep in ClearML. Pure.

An inference service makes its task by `Task.init(project_name=<the control plane's>, task_name="<its name> - serve
instance", task_type="inference")`: name and project are all that ties it to its control plane, no parent is set. Its
SDK pings the task every 30 s; SIGTERM completes it, a kill leaves it `in_progress` and silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from trainyard_stats.fleet import seconds_of

CONTROL_FIELDS: Final = ("id", "name", "project")
INSTANCE_FIELDS: Final = ("id", "name", "last_update")


def instance_filters(control: Mapping[str, Any]) -> dict[str, Any]:
    """ClearML's filters for the tasks among which a control plane's instances are."""
    return {"project": [str(control.get("project"))], "type": ["inference"], "status": ["in_progress"]}


def instances_of(control: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]], since: float) -> int:
    """How many of the tasks are this control plane's instances, heard of since then (seconds since the epoch)."""
    name = f"{control.get('name')} - serve instance"
    return sum(
        task.get("name") == name and (seconds_of(str(task.get("last_update"))) or 0.0) >= since for task in tasks
    )
