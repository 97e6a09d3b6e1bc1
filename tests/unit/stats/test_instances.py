"""Instances of clearml-serving, told by their tasks from what else is in the project."""

from __future__ import annotations

from typing import Any

import pytest

from trainyard_stats.serving.instances import instance_filters, instances_of

CONTROL = {"id": "c", "name": "fraud (EU)", "project": "p"}
AT = 1_795_564_800.0  # 2026-11-25T00:00:00Z


def task(name: str = "fraud (EU) - serve instance", last_update: Any = "2026-11-25T00:00:05.250000+00:00") -> Any:
    return {"id": "i", "name": name, "last_update": last_update}


def test_only_running_inference_tasks_of_the_project_are_asked_for() -> None:
    assert instance_filters(CONTROL) == {"project": ["p"], "type": ["inference"], "status": ["in_progress"]}


@pytest.mark.parametrize(
    ("found", "count"),
    [
        ([], 0),
        ([task(), task(last_update="2026-11-25T00:00:05")], 2),
        ([task(last_update="2026-11-24T23:59:59.999Z")], 0),
        ([task("fraud (US) - serve instance"), task("fraud (EU) - statistics controller"), task("fraud (EU)")], 0),
        ([task(last_update=None), task(last_update="soon"), {"id": "i"}], 0),
    ],
)
def test_an_instance_bears_its_control_planes_name_and_was_heard_of_lately(found: list[Any], count: int) -> None:
    assert instances_of(CONTROL, found, AT) == count
