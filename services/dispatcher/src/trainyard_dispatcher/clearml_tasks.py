"""The executor's `Tasks` over ClearML's REST API, errors told apart by what may be concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from trainyard_dispatcher.ports import (
    FoundTask,
    NotDone,
    OutcomeUnknown,
    Refused,
    SeenTask,
    Survey,
    TaskStatus,
    UnseenModel,
)
from trainyard_runtime.clearml import (
    ClearMLClient,
    ClearMLRefused,
    ClearMLUnavailable,
    ClearMLUnknownOutcome,
    Subcode,
    hyperparam_value,
)
from trainyard_schemas.ids import run_id_from_event
from trainyard_schemas.vocabulary import CLONE_SOURCE, UNSEEN_TAG

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
_OPEN = [TaskStatus.CREATED.value, TaskStatus.QUEUED.value, TaskStatus.IN_PROGRESS.value]
_SEEN_FIELDS = ("id", "status", "status_message", "parent", "tags", "hyperparams.Run", "execution.queue", "last_update")
ABORTED_BY_USER = "stopping"
"""The status message of a task that its users abort while a worker reports that it is at it."""

RESET_TAG = "trainyard:reset"
"""Tells a reset of ours from a user's: tags survive a reset."""

_IDS_PER_CALL = 200
_NOT_THE_RUNS_FAULT = frozenset({401, 403, 404, 501})
"""Refusals of the caller or of the call, not of this run's content: wrong credentials, a proxy, another server."""


class ClearMLTasks:
    """Tasks and queues of one ClearML server. Ids of queues and projects are remembered until one proves wrong.

    Other Trainyards may share the server: only tasks that bear our `topic_prefix` are ours.
    """

    def __init__(
        self, clearml: ClearMLClient, topic_prefix: str, tenant: str, *, create_unknown_queues: bool = False
    ) -> None:
        self._clearml = clearml
        self._topic_prefix = topic_prefix
        self._tenant = tenant
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
            if refusal.detail not in _STANDS_THERE:
                raise

    async def status(self, task_id: str) -> TaskStatus:
        """The task's status now."""
        with _translated():
            task = await self._clearml.get_task(task_id, ("id", "status", "status_message"))
        return TaskStatus.MISSING if task is None else _status(task)

    async def find(self, run_ids: Sequence[str]) -> Sequence[FoundTask]:
        """All marked tasks of these runs that have no parent (a task with one is a user's clone)."""
        with _translated():
            tasks = await self._clearml.find_tasks_by_run(run_ids)
        return [found for task in tasks if (found := _found(task, self._topic_prefix)) is not None]

    async def close(self, task_id: str, was: TaskStatus, status: TaskStatus, message: str) -> None:
        """Take a task out of its queue and set `completed`, `failed` or `stopped`."""
        calls = {
            TaskStatus.COMPLETED: self._clearml.task_completed,
            TaskStatus.FAILED: self._clearml.task_failed,
            TaskStatus.STOPPED: self._clearml.task_stopped,
        }
        with _translated():
            if was is TaskStatus.QUEUED:
                through = status if status is TaskStatus.STOPPED else TaskStatus.IN_PROGRESS
                await self._clearml.dequeue_task(task_id, new_status=through.value, message=message)
                if through is status:
                    return
            await calls[status](task_id, reason="trainyard", message=message)

    async def reveal_model(self, model_id: str) -> None:
        """Show a registered model that nobody saw so far; one that is gone needs no showing."""
        with suppress(Refused), _translated():
            model = await self._clearml.get_model(model_id, ("id", "tags"))
            if model is not None:
                tags = [tag for tag in model.get("tags") or () if tag != UNSEEN_TAG]
                await self._clearml.edit_model(model_id, {"tags": tags, "system_tags": []})

    async def delete_model(self, model_id: str) -> None:
        """Delete a model that nobody ever saw. One that is gone counts as done."""
        with suppress(Refused), _translated():
            await self._clearml.delete_model(model_id, force=True)

    async def reset(self, task_id: str) -> None:
        """Tag a task as reset by us, then make it `created` again."""
        with _translated():
            task = await self._clearml.get_task(task_id, ("id", "tags"))
            tags = list((task or {}).get("tags") or [])
            if RESET_TAG not in tags:
                await self._clearml.edit_task(task_id, {"tags": [*tags, RESET_TAG]}, force=True)
            await self._clearml.reset_task(task_id, reason="trainyard", message="no worker claimed it")

    async def restart(self, task_id: str) -> None:
        """Make a task `in_progress`."""
        with _translated():
            await self._clearml.task_started(task_id, reason="trainyard", message="its attempt is running")

    async def delete(self, task_id: str) -> None:
        """Delete a task that is `created`. One that is gone counts as done."""
        try:
            with _translated():
                await self._clearml.delete_task(task_id, message="no attempt ever used it")
        except Refused as refusal:
            if refusal.detail != "no_such_task":
                raise

    async def adoptable(self, task_id: str) -> str | None:
        """None where the task is a user's clone of one of ours; else why it is not."""
        with _translated():
            task = await self._clearml.get_task(task_id, _SEEN_FIELDS)
        if task is None:
            return f"the ClearML task {task_id} does not exist"
        seen = self._seen(task)
        return None if seen is not None and seen.parent is not None else f"the ClearML task {task_id} is no clone"

    async def survey(self, task_ids: Sequence[str]) -> Survey:
        """Look at these tasks, at all open ones that bear our marker, and at what stands in the queues."""
        asked: dict[str, SeenTask] = {}
        with _translated():
            for start in range(0, len(task_ids), _IDS_PER_CALL):
                batch = list(task_ids[start : start + _IDS_PER_CALL])
                found = await self._clearml.find_tasks({"id": batch}, _SEEN_FIELDS)
                asked |= {str(task["id"]): self._seen(task) or _bare(task) for task in found}
            marked = {"hyperparams.Run.topic_prefix.value": self._topic_prefix, "status": _OPEN}
            open_ = [self._seen(task) for task in await self._clearml.find_tasks(marked, _SEEN_FIELDS)]
            entries = {entry.task_id for queue in await self._clearml.queues() for entry in queue.entries}
            unseen = await self._clearml.find_models({"tags": [UNSEEN_TAG]}, ("id", "metadata"))
        return Survey(
            asked,
            tuple(task for task in open_ if task is not None),
            frozenset(entries),
            tuple(model for one in unseen if (model := _unseen(one)) is not None),
        )

    def _seen(self, task: Mapping[str, Any]) -> SeenTask | None:
        """The task as a survey shows it; None where it does not bear our marker."""
        found = _marker(task, self._topic_prefix)
        if found is None:
            return None
        run_id, attempt = found
        parent = _id_of(task.get("parent"))
        if parent is not None:
            run_id, attempt = run_id_from_event(self._tenant, CLONE_SOURCE, str(task["id"])), 1
        return replace(_bare(task), run_id=run_id, attempt=attempt, parent=parent)

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


_STANDS_THERE = frozenset({_detail(Subcode.ALREADY_IN_QUEUE), _detail(Subcode.TASK_NOT_IN_QUEUE)})
"""Why an enqueue is refused that came too late: the latter where another one, sent at the same moment, was first."""


def _found(task: Mapping[str, Any], topic_prefix: str) -> FoundTask | None:
    marker = _marker(task, topic_prefix)
    if marker is None or task.get("parent"):
        return None
    return FoundTask(str(task["id"]), *marker, _status(task))


def _marker(task: Mapping[str, Any], topic_prefix: str) -> tuple[str, int] | None:
    run_id = hyperparam_value(task, "Run", "run_id")
    attempt = hyperparam_value(task, "Run", "attempt")
    if hyperparam_value(task, "Run", "topic_prefix") != topic_prefix:
        return None
    if run_id is None or attempt is None or not attempt.isdecimal():
        return None
    return run_id, int(attempt)


def _bare(task: Mapping[str, Any]) -> SeenTask:
    """What can be said of any task, with a marker or (as a user may have edited it) without."""
    queue = _id_of((task.get("execution") or {}).get("queue"))
    reset = RESET_TAG in (task.get("tags") or ())
    return SeenTask(
        str(task["id"]), "", 0, _status(task), None, queue, str(task.get("last_update") or ""), was_reset_by_us=reset
    )


def _unseen(model: Mapping[str, Any]) -> UnseenModel | None:
    found = {key: (model.get("metadata") or {}).get(key) for key in ("run_id", "attempt", "claim")}
    texts = {key: str(item.get("value")) for key, item in found.items() if isinstance(item, Mapping)}
    if len(texts) < len(found) or not texts["attempt"].isdecimal():
        return None
    return UnseenModel(str(model["id"]), texts["run_id"], int(texts["attempt"]), texts["claim"])


def _status(task: Mapping[str, Any]) -> TaskStatus:
    """The status; a task that ClearML's users abort is stopped, though ClearML leaves that to the worker it runs on."""
    if task.get("status") == TaskStatus.IN_PROGRESS and task.get("status_message") == ABORTED_BY_USER:
        return TaskStatus.STOPPED
    return _STATUSES.get(str(task.get("status")), TaskStatus.OTHER)


def _id_of(value: Any) -> str | None:
    """A reference as ClearML answers it: an id, or an object that holds one."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return str(found) if found else None
