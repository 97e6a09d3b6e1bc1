"""The calls on queues, workers and projects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainyard_runtime.clearml.calls import Calls
from trainyard_runtime.clearml.errors import ClearMLRefused, ClearMLUnknownOutcome, Subcode
from trainyard_runtime.clearml.values import PAGE_SIZE, Queue, exactly, queue_from_wire


class QueueCalls(Calls):
    """Queues and the projects tasks live in."""

    async def queues(self) -> list[Queue]:
        """Every queue with its entries in order."""
        return [queue_from_wire(item) for item in await self._all("queues", {"only_fields": ["id", "name", "entries"]})]

    async def ensure_queue(self, name: str) -> str:
        """The id of the queue with exactly this name; created if there is none. Safe to repeat and to race."""
        return await self._ensure("queues", {"name": name})

    async def ensure_project(self, name: str) -> str:
        """The id of the project with exactly this name; created if there is none."""
        return await self._ensure("projects", {"name": name, "description": ""})

    async def find_project(self, name: str) -> str | None:
        """The id of the project with exactly this name, a hidden one too (as of a dataset); None if there is none."""
        return await self._id_by_name("projects", name, search_hidden=True)

    async def project_name(self, project_id: str) -> str | None:
        """The name of a project; None if there is none of this id."""
        found = await self._all("projects", {"id": [project_id], "only_fields": ["id", "name"], "search_hidden": True})
        return str(found[0]["name"]) if found else None

    async def get_next_task(self, queue_id: str) -> str | None:
        """Pop the first task of a queue: its id, or None if the queue is empty. One popper gets it.

        After `ClearMLUnknownOutcome` a task may have been popped for nobody; it stays `queued` with no entry.
        """
        data = await self._transport.effect("queues.get_next_task", {"queue": queue_id})
        entry = data.get("entry")
        if entry is None:
            return None
        if not isinstance(entry, dict) or not entry.get("task"):
            raise ClearMLUnknownOutcome("queues.get_next_task", "the answer's entry names no task")
        return str(entry["task"])

    async def remove_from_queue(self, queue_id: str, task_id: str) -> bool:
        """Remove a task's entry from a queue; False if it had none. The task's status stays as it is."""
        try:
            await self._transport.effect("queues.remove_task", {"queue": queue_id, "task": task_id})
        except ClearMLRefused as refusal:
            if refusal.subcode == Subcode.TASK_NOT_IN_QUEUE:
                return False
            raise
        return True

    async def delete_queue(self, queue_id: str, *, force: bool = False) -> None:
        """Delete a queue; one with entries only with `force` (`Subcode.QUEUE_NOT_EMPTY`)."""
        await self._transport.effect("queues.delete", {"queue": queue_id, "force": force})

    async def _ensure(self, service: str, body: Mapping[str, Any]) -> str:
        name = str(body["name"])
        found = await self._id_by_name(service, name)
        if found is not None:
            return found
        try:
            return str((await self._transport.effect(f"{service}.create", body))["id"])
        except ClearMLRefused as refusal:
            if refusal.subcode != Subcode.DUPLICATE_NAME:
                raise
            found = await self._id_by_name(service, name)
            if found is None:
                raise
            return found

    async def _id_by_name(self, service: str, name: str, **more: Any) -> str | None:
        items = await self._all(service, {"name": exactly(name), "only_fields": ["id", "name"], **more})
        return next((str(item["id"]) for item in items if item.get("name") == name), None)

    async def _all(self, service: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        page = 0
        while True:
            asked = {**body, "page": page, "page_size": PAGE_SIZE, "order_by": ["name"]}
            data = await self._transport.read(f"{service}.get_all", asked)
            items = data.get(service) or []
            found.update((item["id"], item) for item in items)
            if len(items) < PAGE_SIZE:
                return list(found.values())
            page += 1


class WorkerCalls(Calls):
    """What makes a process show as a worker in ClearML."""

    async def worker_register(
        self, worker: str, queue_ids: Sequence[str], *, timeout_s: int = 600, tags: Sequence[str] = ()
    ) -> None:
        """Register; ClearML forgets a worker that is silent for `timeout_s`."""
        body = {"worker": worker, "queues": [*queue_ids], "timeout": timeout_s, "tags": [*tags]}
        await self._transport.effect("workers.register", body)

    async def worker_status_report(
        self,
        worker: str,
        queue_ids: Sequence[str],
        *,
        timestamp_ms: int,
        task_id: str | None = None,
        queue_id: str | None = None,
        machine_stats: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what the worker does now: idle, or `task_id` (popped from `queue_id`)."""
        body: dict[str, Any] = {"worker": worker, "queues": [*queue_ids], "timestamp": timestamp_ms}
        if task_id is not None:
            body["task"] = task_id
        if queue_id is not None:
            body["queue"] = queue_id
        if machine_stats is not None:
            body["machine_stats"] = dict(machine_stats)
        await self._transport.effect("workers.status_report", body)

    async def worker_unregister(self, worker: str) -> None:
        """Leave."""
        await self._transport.effect("workers.unregister", {"worker": worker})

    async def workers(self, *, last_seen_s: int = 100) -> list[dict[str, Any]]:
        """The workers heard of in the last `last_seen_s` seconds, as ClearML describes them.

        Agents, clearml-serving and our workers report every 30 s: who is silent for three of them is gone.
        """
        data = await self._transport.read("workers.get_all", {"last_seen": last_seen_s})
        return list(data.get("workers") or [])
