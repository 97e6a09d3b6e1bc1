"""What ClearML's answers mean to the planner, where no single client can bring them about."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from trainyard_dispatcher.clearml_tasks import ClearMLTasks
from trainyard_dispatcher.ports import Refused, TaskStatus
from trainyard_runtime.clearml import ClearMLClient, ClearMLRefused, Subcode


class Answers:
    """A client that gives one answer."""

    def __init__(self, *, task: Mapping[str, Any] | None = None, refusal: int | None = None) -> None:
        self._task = task
        self._refusal = refusal

    async def get_task(self, _task_id: str, _fields: tuple[str, ...]) -> Mapping[str, Any] | None:
        return self._task

    async def enqueue_task(self, _task_id: str, _queue_id: str) -> None:
        if self._refusal is not None:
            raise ClearMLRefused("tasks.enqueue", 400, self._refusal, "no")


def tasks(answers: Answers) -> ClearMLTasks:
    return ClearMLTasks(cast(ClearMLClient, answers), "p.", "default")


@pytest.mark.parametrize("subcode", [Subcode.ALREADY_IN_QUEUE, Subcode.TASK_NOT_IN_QUEUE])
def test_an_enqueue_that_another_one_was_before_counts_as_done(subcode: int) -> None:
    asyncio.run(tasks(Answers(refusal=subcode)).enqueue("t", "q"))


def test_an_enqueue_that_is_refused_otherwise_is_refused() -> None:
    with pytest.raises(Refused) as found:
        asyncio.run(tasks(Answers(refusal=Subcode.NO_SUCH_TASK)).enqueue("t", "q"))
    assert found.value.detail == "no_such_task"


@pytest.mark.parametrize(
    ("status", "message", "seen"),
    [
        ("in_progress", "stopping", TaskStatus.STOPPED),
        ("in_progress", "its attempt is running", TaskStatus.IN_PROGRESS),
        ("in_progress", None, TaskStatus.IN_PROGRESS),
        ("completed", "stopping", TaskStatus.COMPLETED),
        ("a new one", "", TaskStatus.OTHER),
    ],
)
def test_a_task_that_its_users_abort_is_stopped(status: str, message: str | None, seen: TaskStatus) -> None:
    task = {"id": "t", "status": status, "status_message": message}
    assert asyncio.run(tasks(Answers(task=task)).status("t")) is seen
