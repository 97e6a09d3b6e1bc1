"""The protocol's `Tasks` over ClearML's REST API."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from trainyard_runtime.clearml import (
    ClearMLClient,
    ClearMLError,
    ClearMLRefused,
    ClearMLUnavailable,
    ClearMLUnknownOutcome,
    Subcode,
)
from trainyard_trainer_worker.ports import PoppedTask, TaskEnd, TasksRefused, TasksUnavailable

T = TypeVar("T")

FIELDS: Final = ("id", "name", "status", "parent", "project", "hyperparams")
DONE: Final = {
    TaskEnd.COMPLETED: ("completed", "published", "closed"),
    TaskEnd.FAILED: ("failed",),
    TaskEnd.STOPPED: ("stopped", "completed", "failed", "published", "closed"),
}
STATUS_MESSAGE_MAX = 1_000


async def translated(call: Awaitable[T]) -> T:
    """The call's answer; our errors in place of the client's."""
    try:
        return await call
    except ClearMLRefused as refusal:
        if refusal.code == 401:
            raise TasksUnavailable(str(refusal)) from refusal  # credentials are a matter of the whole process
        raise TasksRefused(str(refusal)) from refusal
    except (ClearMLUnavailable, ClearMLUnknownOutcome) as problem:
        raise TasksUnavailable(str(problem)) from problem


def popped_task(answer: dict[str, Any]) -> PoppedTask:
    """A task as tasks.get_all answers it."""
    parameters = {
        str(section): {
            str(name): str(item.get("value", "")) for name, item in (items or {}).items() if isinstance(item, dict)
        }
        for section, items in (answer.get("hyperparams") or {}).items()
    }
    return PoppedTask(
        id=str(answer["id"]),
        name=str(answer.get("name") or ""),
        status=str(answer.get("status") or ""),
        parent=_id_of(answer.get("parent")),
        project_id=_id_of(answer.get("project")),
        parameters=parameters,
    )


def _id_of(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("id")
    return str(value) if value else None


class ClearMLTasks:
    """Repeating any of its calls is harmless."""

    def __init__(self, client: ClearMLClient) -> None:
        self._client = client

    async def read(self, task_id: str) -> PoppedTask | None:
        """See ports.Tasks."""
        answer = await translated(self._client.get_task(task_id, FIELDS))
        return None if answer is None else popped_task(answer)

    async def started(self, task_id: str) -> None:
        """See ports.Tasks."""
        await self._start(task_id)

    async def close(self, task_id: str, end: TaskEnd, *, reason: str, message: str) -> None:
        """See ports.Tasks."""
        calls = {
            TaskEnd.COMPLETED: self._client.task_completed,
            TaskEnd.FAILED: self._client.task_failed,
            TaskEnd.STOPPED: self._client.task_stopped,
        }
        set_status = calls[end]
        text = message[:STATUS_MESSAGE_MAX]
        try:
            await set_status(task_id, reason=reason, message=text)
        except ClearMLRefused as refusal:
            if refusal.subcode != Subcode.WRONG_STATUS:
                raise TasksRefused(str(refusal)) from refusal
        except ClearMLError as problem:
            raise TasksUnavailable(str(problem)) from problem
        else:
            return
        now = await self.read(task_id)
        if now is None or now.status in DONE[end]:
            return
        await self._start(task_id)
        await translated(set_status(task_id, reason=reason, message=text))

    async def _start(self, task_id: str) -> None:
        await translated(self._client.task_started(task_id, reason="claimed by a trainer worker"))
