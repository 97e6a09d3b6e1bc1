"""The executor's `Tasks` over ClearML's REST API, errors told apart by what may be concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from trainyard_dispatcher.ports import FoundTask, NotDone, OutcomeUnknown, Refused, TaskStatus
from trainyard_runtime.clearml import (
    ClearMLClient,
    ClearMLRefused,
    ClearMLUnavailable,
    ClearMLUnknownOutcome,
    Subcode,
    hyperparam_value,
)

UNKNOWN_QUEUE = "unknown_queue"
_DETAILS: Mapping[int, str] = {
    Subcode.NO_SUCH_QUEUE: UNKNOWN_QUEUE,
    Subcode.NO_SUCH_TASK: "no_such_task",
    Subcode.WRONG_STATUS: "wrong_status",
    Subcode.LOST_STATUS_RACE: "wrong_status",
    Subcode.VALIDATION: "validation",
}
_STATUSES: Mapping[str, TaskStatus] = {
    status.value: status for status in TaskStatus if status not in (TaskStatus.OTHER, TaskStatus.MISSING)
}
_NOT_THE_RUNS_FAULT = frozenset({401, 403, 404, 501})
"""Refusals of the caller or of the call, not of this run's content: wrong credentials, a proxy, another server."""


class ClearMLTasks:
    """Tasks and queues of one ClearML server. Ids of queues and projects are remembered until one proves wrong.

    Other Trainyards may share the server: only tasks that bear our `topic_prefix` are ours.
    """

    def __init__(self, clearml: ClearMLClient, topic_prefix: str, *, create_unknown_queues: bool = False) -> None:
        self._clearml = clearml
        self._topic_prefix = topic_prefix
        self._create_unknown_queues = create_unknown_queues
        self._queue_ids: dict[str, str] = {}
        self._project_ids: dict[str, str] = {}

    async def ensure_queues(self, names: Iterable[str]) -> None:
        """Make sure that queues exist. Raises NotDone, OutcomeUnknown, Refused; safe to repeat."""
        for name in sorted(names):
            with _translated():
                self._queue_ids[name] = await self._clearml.ensure_queue(name)

    async def queue_id(self, name: str) -> str:
        """The id of a queue by its exact name. Raises Refused(`unknown_queue`) where there is none."""
        if name not in self._queue_ids:
            if self._create_unknown_queues:
                await self.ensure_queues([name])
            else:
                with _translated():
                    self._queue_ids |= {queue.name: queue.id for queue in await self._clearml.queues()}
        if name not in self._queue_ids:
            known = ", ".join(sorted(self._queue_ids)[:20])
            raise Refused(UNKNOWN_QUEUE, f"queue: ClearML has no queue '{name}'; use one of {known}")
        return self._queue_ids[name]

    async def create(self, project: str, body: Mapping[str, Any]) -> str:
        """Create a task in one call and return its id. Never retried here."""
        with _translated():
            if project not in self._project_ids:
                self._project_ids[project] = await self._clearml.ensure_project(project)
        with _translated(lambda refusal: self._forget_project(project, refusal)):
            return await self._clearml.create_task({**body, "project": self._project_ids[project]})

    async def enqueue(self, task_id: str, queue_id: str) -> None:
        """Put a task into a queue. A task that stands there already counts as done."""
        try:
            with _translated(self._forget_queues):
                await self._clearml.enqueue_task(task_id, queue_id)
        except Refused as refusal:
            if refusal.detail != _detail(Subcode.ALREADY_IN_QUEUE):
                raise

    async def status(self, task_id: str) -> TaskStatus:
        """The task's status now."""
        with _translated():
            task = await self._clearml.get_task(task_id, ("id", "status"))
        return TaskStatus.MISSING if task is None else _STATUSES.get(str(task.get("status")), TaskStatus.OTHER)

    async def find(self, run_ids: Sequence[str]) -> Sequence[FoundTask]:
        """All marked tasks of these runs that have no parent (a task with one is a user's clone)."""
        with _translated():
            tasks = await self._clearml.find_tasks_by_run(run_ids)
        return [found for task in tasks if (found := _found(task, self._topic_prefix)) is not None]

    async def close(self, task_id: str, status: TaskStatus, message: str) -> None:
        """Set `completed`, `failed` or `stopped` on a task that is in progress."""
        calls = {
            TaskStatus.COMPLETED: self._clearml.task_completed,
            TaskStatus.FAILED: self._clearml.task_failed,
            TaskStatus.STOPPED: self._clearml.task_stopped,
        }
        with _translated():
            await calls[status](task_id, reason="trainyard", message=message)

    def _forget_queues(self, refusal: ClearMLRefused) -> None:
        if refusal.subcode == Subcode.NO_SUCH_QUEUE:
            self._queue_ids.clear()

    def _forget_project(self, project: str, refusal: ClearMLRefused) -> None:
        """A project that was deleted under us is made again at the next attempt, which the run need not know."""
        if refusal.subcode == Subcode.BAD_PROJECT_OR_PARENT:
            self._project_ids.pop(project, None)
            raise NotDone(str(refusal)) from refusal


@contextmanager
def _translated(on_refusal: Callable[[ClearMLRefused], None] = lambda refusal: None) -> Iterator[None]:
    """Turn the client's errors into the port's."""
    try:
        yield
    except ClearMLRefused as refusal:
        on_refusal(refusal)
        if refusal.code in _NOT_THE_RUNS_FAULT:
            raise NotDone(str(refusal)) from refusal
        raise Refused(_detail(refusal.subcode), refusal.msg or str(refusal)) from refusal
    except ClearMLUnavailable as error:
        raise NotDone(str(error)) from error
    except ClearMLUnknownOutcome as error:
        raise OutcomeUnknown(str(error)) from error


def _detail(subcode: int) -> str:
    return _DETAILS.get(subcode, f"clearml_{subcode}")


def _found(task: Mapping[str, Any], topic_prefix: str) -> FoundTask | None:
    run_id = hyperparam_value(task, "Run", "run_id")
    attempt = hyperparam_value(task, "Run", "attempt")
    if hyperparam_value(task, "Run", "topic_prefix") != topic_prefix:
        return None
    if task.get("parent") or run_id is None or attempt is None or not attempt.isdecimal():
        return None
    status = _STATUSES.get(str(task.get("status")), TaskStatus.OTHER)
    return FoundTask(str(task["id"]), run_id, int(attempt), status)
