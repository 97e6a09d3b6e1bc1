"""The calls on tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trainyard_runtime.clearml.calls import Calls
from trainyard_runtime.clearml.errors import ClearMLUnknownOutcome
from trainyard_runtime.clearml.values import PAGE_SIZE, RUN_ID_FILTER, StatusChange, hyperparams, status_change

TASK_FIELDS_OF_A_RUN: Final = (
    "id",
    "name",
    "status",
    "status_message",
    "parent",
    "tags",
    "hyperparams",
    "execution.queue",
    "last_update",
)
"""What a planner needs of a task."""

RUN_IDS_PER_CALL: Final = 200


class TaskCalls(Calls):
    """Tasks: create, find, change status, edit. Status changes keep the table of the design's clearml.md."""

    async def create_task(self, body: Mapping[str, Any]) -> str:
        """Create a task from one body (name, type, script, hyperparams, tags, ...) and return its id. Sent once.

        After `ClearMLUnknownOutcome` the task may exist: find it by its run id before creating another.
        """
        data = await self._transport.effect("tasks.create", body)
        task_id = data.get("id")
        if not isinstance(task_id, str) or not task_id:
            raise ClearMLUnknownOutcome("tasks.create", "the answer holds no id")
        return task_id

    async def enqueue_task(self, task_id: str, queue_id: str) -> StatusChange:
        """Put a task on a queue, by the queue's id (a name could make a queue that nobody serves). Sent once.

        Refusals: `Subcode.ALREADY_IN_QUEUE`, `NO_SUCH_QUEUE`, `WRONG_STATUS`, `NO_SUCH_TASK`.
        """
        return status_change(await self._transport.effect("tasks.enqueue", {"task": task_id, "queue": queue_id}))

    async def dequeue_task(self, task_id: str, *, new_status: str | None = None, message: str = "") -> StatusChange:
        """Take a task off its queue; its status becomes `new_status`, or `created`. Never refused for its status."""
        body: dict[str, Any] = {"task": task_id, "status_message": message}
        if new_status is not None:
            body["new_status"] = new_status
        return status_change(await self._transport.effect("tasks.dequeue", body))

    async def get_task(self, task_id: str, only_fields: Sequence[str] = ()) -> dict[str, Any] | None:
        """A task, or only the named (dotted) fields of it; None if there is no such task."""
        body: dict[str, Any] = {"id": [task_id]}
        if only_fields:
            body["only_fields"] = [*only_fields]
        found = (await self._transport.read("tasks.get_all", body)).get("tasks") or []
        return found[0] if found else None

    async def find_tasks(self, filters: Mapping[str, Any], only_fields: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All tasks that match ClearML's filters, each once, however many pages that takes.

        An empty filter value (`id: []`) is no filter for ClearML: here it finds nothing.
        """
        if any(isinstance(value, list | tuple) and not value for value in filters.values()):
            return []
        body: dict[str, Any] = {**filters, "size": PAGE_SIZE, "scroll_id": None}
        if only_fields:
            body["only_fields"] = [*only_fields] if "id" in only_fields else ["id", *only_fields]
        found: dict[str, dict[str, Any]] = {}
        while True:
            data = await self._transport.read("tasks.get_all", body)
            page = data.get("tasks") or []
            found.update((task["id"], task) for task in page)
            if len(page) < PAGE_SIZE:
                return list(found.values())
            body["scroll_id"] = data.get("scroll_id")

    async def find_tasks_by_run(self, run_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Every task that bears one of these run ids, with `TASK_FIELDS_OF_A_RUN`; a clone has a `parent`."""
        wanted = sorted(set(run_ids))
        found: list[dict[str, Any]] = []
        for start in range(0, len(wanted), RUN_IDS_PER_CALL):
            batch = wanted[start : start + RUN_IDS_PER_CALL]
            found += await self.find_tasks({RUN_ID_FILTER: batch}, TASK_FIELDS_OF_A_RUN)
        return found

    async def task_started(
        self, task_id: str, *, reason: str = "", message: str = "", force: bool = False
    ) -> StatusChange:
        """Set `in_progress`. Answers every caller alike: this is no claim."""
        return await self._change("tasks.started", task_id, reason, message, force)

    async def task_completed(
        self, task_id: str, *, reason: str = "", message: str = "", force: bool = False
    ) -> StatusChange:
        """Set `completed`."""
        return await self._change("tasks.completed", task_id, reason, message, force)

    async def task_failed(
        self, task_id: str, *, reason: str = "", message: str = "", force: bool = False
    ) -> StatusChange:
        """Set `failed`."""
        return await self._change("tasks.failed", task_id, reason, message, force)

    async def task_stopped(
        self, task_id: str, *, reason: str = "", message: str = "", force: bool = False
    ) -> StatusChange:
        """Set `stopped`. A queued task may keep its entry: remove that with `remove_from_queue`."""
        return await self._change("tasks.stopped", task_id, reason, message, force)

    async def reset_task(
        self, task_id: str, *, reason: str = "", message: str = "", force: bool = False
    ) -> StatusChange:
        """Back to `created`: keeps tags and hyperparameters, wipes `runtime` and results."""
        return await self._change("tasks.reset", task_id, reason, message, force)

    async def delete_task(self, task_id: str, *, message: str = "", force: bool = False) -> None:
        """Delete a task; without `force` only a `created` one (`Subcode.CANNOT_DELETE`)."""
        await self._transport.effect("tasks.delete", {"task": task_id, "force": force, "status_message": message})

    async def clone_task(self, task_id: str, name: str) -> str:
        """Copy a task under a new name (tags and hyperparameters, not `runtime`; `parent` is set); returns the id."""
        data = await self._transport.effect("tasks.clone", {"task": task_id, "new_task_name": name})
        return str(data["id"])

    async def edit_task(self, task_id: str, fields: Mapping[str, Any], *, force: bool = False) -> None:
        """Replace top-level fields of a task; outside `created` only with `force`."""
        await self._transport.effect("tasks.edit", {**fields, "task": task_id, "force": force})

    async def edit_hyper_params(
        self, task_id: str, sections: Mapping[str, Mapping[str, str]], *, force: bool = False
    ) -> None:
        """Set or add hyperparameters, `{section: {name: value}}`; others stay."""
        items = [item for section in hyperparams(sections).values() for item in section.values()]
        body = {"task": task_id, "hyperparams": items, "replace_hyperparams": "none", "force": force}
        await self._transport.effect("tasks.edit_hyper_params", body)

    async def add_artifacts(self, task_id: str, artifacts: Sequence[Mapping[str, Any]], *, force: bool = False) -> None:
        """Register artifacts (`key`, `type`, `mode`, `uri`, `content_size`, `hash`); the same key is replaced."""
        body = {"task": task_id, "artifacts": [dict(artifact) for artifact in artifacts], "force": force}
        await self._transport.effect("tasks.add_or_update_artifacts", body)

    async def add_task_model(self, task_id: str, model_id: str, name: str, *, kind: str = "output") -> None:
        """Name a model as the task's `output` (or `input`) model."""
        body = {"task": task_id, "model": model_id, "name": name, "type": kind}
        await self._transport.effect("tasks.add_or_update_model", body)

    async def ping_task(self, task_id: str) -> None:
        """Say that the task is alive."""
        await self._transport.effect("tasks.ping", {"task": task_id})

    async def _change(self, action: str, task_id: str, reason: str, message: str, force: bool) -> StatusChange:
        body = {"task": task_id, "status_reason": reason, "status_message": message, "force": force}
        return status_change(await self._transport.effect(action, body))
