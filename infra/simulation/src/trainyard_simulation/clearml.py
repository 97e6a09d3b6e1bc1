"""The simulated ClearML server: its table of statuses, its queues, and a ledger of what reached it.

The rules are those of the design's clearml.md. A read follows all writes that were applied before; an answer may be
lost, a request may come late or twice (see `kernel`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from trainyard_schemas.ids import run_id_from_event
from trainyard_schemas.vocabulary import CLONE_SOURCE
from trainyard_simulation.effects import Call, Signal
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

OPEN = (TaskStatus.CREATED, TaskStatus.QUEUED, TaskStatus.IN_PROGRESS)
_MAY_START = frozenset(
    {TaskStatus.CREATED, TaskStatus.QUEUED, TaskStatus.IN_PROGRESS, TaskStatus.STOPPED, TaskStatus.COMPLETED}
)
_MAY_ENQUEUE = frozenset({TaskStatus.CREATED, TaskStatus.QUEUED, TaskStatus.STOPPED, TaskStatus.FAILED})
_MAY_END: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.COMPLETED: frozenset({TaskStatus.IN_PROGRESS, TaskStatus.STOPPED, TaskStatus.COMPLETED}),
    TaskStatus.FAILED: frozenset({TaskStatus.IN_PROGRESS, TaskStatus.STOPPED, TaskStatus.FAILED}),
    TaskStatus.STOPPED: frozenset({TaskStatus.QUEUED, TaskStatus.IN_PROGRESS, TaskStatus.STOPPED, TaskStatus.FAILED}),
}


@dataclass(slots=True)
class SimTask:
    """One task as it stands. `parent`: it is a user's clone of that task. `updates` counts what changed it."""

    task_id: str
    body: Mapping[str, Any]
    status: TaskStatus = TaskStatus.CREATED
    parent: str | None = None
    queue_id: str | None = None
    was_reset_by_us: bool = False
    updates: int = 0

    def parameter(self, name: str) -> str:
        """The text of `Run/<name>`."""
        return str(self.body["hyperparams"]["Run"][name]["value"])


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry that was made in a queue: by whom, what the task's status was before, and whether its maker was blind:

    it had sent an enqueue of this task before, and never saw the task `created` since.
    """

    task_id: str
    by: str
    status_before: TaskStatus
    blind: bool


@dataclass(slots=True)
class Sight:
    """Whether one incarnation may have enqueued one task already, and has not seen it `created` since."""

    is_blind: bool = False


@dataclass(slots=True)
class ServerLedger:
    """What reached the server, for the checker."""

    entries: list[Entry] = field(default_factory=list)
    popped: list[tuple[str, str]] = field(default_factory=list)
    user_acts: list[tuple[str, str]] = field(default_factory=list)
    shown_models: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


class ClearML:
    """One server with the queues that `queue_names` lists; a queue's id is its name with `q-` before it."""

    def __init__(self, kernel: Kernel, queue_names: Sequence[str], tenant: str) -> None:
        self._kernel = kernel
        self._tenant = tenant
        self.tasks: dict[str, SimTask] = {}
        self.all_tasks: dict[str, SimTask] = {}
        self.by_run: dict[str, list[SimTask]] = defaultdict(list)
        self.queues: dict[str, deque[str]] = {f"q-{name}": deque() for name in queue_names}
        self.ledger = ServerLedger()
        self.unseen_models: dict[str, UnseenModel] = {}
        self.queue_signals: dict[str, Signal] = {}
        self._sights: dict[tuple[str, str], Sight] = defaultdict(Sight)

    def create(self, body: Mapping[str, Any]) -> str:
        task = SimTask(f"task-{len(self.all_tasks) + 1:03}", body)
        self.tasks[task.task_id] = self.all_tasks[task.task_id] = task
        if self.is_marked(task):
            self.by_run[task.parameter("run_id")].append(task)
        return task.task_id

    def register_model(self, model: UnseenModel) -> None:
        """Nobody sees it yet."""
        self.unseen_models[model.model_id] = model

    def reveal_model(self, model_id: str) -> None:
        """One that is gone, or seen already, needs no showing."""
        model = self.unseen_models.pop(model_id, None)
        if model is not None:
            self.ledger.shown_models[model.run_id].add(model.claim)

    def is_marked(self, task: SimTask) -> bool:
        """True where the task bears our marker."""
        return "Run" in task.body["hyperparams"]

    def open_tasks_of_ours(self) -> int:
        """Tasks that are marked, no clones, and created, queued or in progress."""
        return sum(t.status in OPEN and t.parent is None and self.is_marked(t) for t in self.tasks.values())

    def status(self, task_id: str, by: str) -> TaskStatus:
        task = self.tasks.get(task_id)
        if task is None:
            return TaskStatus.MISSING
        if task.status is TaskStatus.CREATED:
            self._sights[by, task_id].is_blind = False
        return task.status

    def find(self, run_ids: Sequence[str]) -> list[FoundTask]:
        return [
            FoundTask(t.task_id, run_id, int(t.parameter("attempt")), t.status)
            for run_id in run_ids
            for t in self.by_run.get(run_id, ())
            if t.parent is None and t.task_id in self.tasks
        ]

    def survey(self, task_ids: Sequence[str], by: str) -> Survey:
        entries = frozenset(task for queue in self.queues.values() for task in queue)
        for task_id, task in self.tasks.items():
            if task.status is TaskStatus.QUEUED and task_id not in entries:
                self._sights[by, task_id].is_blind = False
        return Survey(
            {t: self._seen(self.tasks[t]) for t in task_ids if t in self.tasks},
            tuple(self._seen(t) for t in self.tasks.values() if t.status in OPEN and self.is_marked(t)),
            entries,
            tuple(self.unseen_models.values()),
        )

    def _seen(self, task: SimTask) -> SeenTask:
        run_id, attempt = self.run_of(task)
        return SeenTask(
            task.task_id,
            run_id,
            attempt,
            task.status,
            task.parent,
            task.queue_id,
            str(task.updates),
            task.was_reset_by_us,
        )

    def run_of(self, task: SimTask) -> tuple[str, int]:
        """The run and attempt that a task is, or, for a clone, would be; nothing for a foreign one."""
        if not self.is_marked(task):
            return "", 0
        if task.parent is not None:
            return run_id_from_event(self._tenant, CLONE_SOURCE, task.task_id), 1
        return task.parameter("run_id"), int(task.parameter("attempt"))

    def clone(self, task_id: str) -> str:
        """A user's copy of a task."""
        task = SimTask(f"clone-{len(self.all_tasks) + 1:03}", self._task(task_id).body, parent=task_id)
        self.tasks[task.task_id] = self.all_tasks[task.task_id] = task
        return task.task_id

    def reset(self, task_id: str, *, by_us: bool) -> None:
        task = self._task(task_id)
        if task.status is TaskStatus.PUBLISHED:
            raise Refused("wrong_status", f"{task_id} is {task.status}")
        self._leave_queues(task_id)
        task.was_reset_by_us |= by_us
        self._becomes(task, TaskStatus.CREATED)

    def dequeue(self, task_id: str, new_status: TaskStatus) -> None:
        """Never refused for its status."""
        task = self._task(task_id)
        self._leave_queues(task_id)
        self._becomes(task, new_status)

    def delete(self, task_id: str, *, force: bool = False) -> None:
        task = self._task(task_id)
        if task.status is not TaskStatus.CREATED and not force:
            raise Refused("cannot_delete", f"{task_id} is {task.status}")
        self._leave_queues(task_id)
        del self.tasks[task_id]

    def _becomes(self, task: SimTask, status: TaskStatus) -> None:
        task.status = status
        task.updates += 1

    def enqueue(self, task_id: str, queue_id: str, by: str, *, blind: bool) -> None:
        """Put a task into a queue. A task that stands there already is left there (706), which counts as done."""
        queue = self.queues.get(queue_id)
        if queue is None:
            raise Refused("no_such_queue", f"no queue {queue_id}")
        task = self._task(task_id)
        if task.status not in _MAY_ENQUEUE:
            raise Refused("wrong_status", f"{task_id} is {task.status}")
        if task_id in queue:
            self._kernel.coverage["706: already in this queue"] += 1
            return
        before = task.status
        self._becomes(task, TaskStatus.QUEUED)
        task.queue_id = queue_id
        queue.append(task_id)
        self.ledger.entries.append(Entry(task_id, by, before, blind))
        if before is not TaskStatus.CREATED:
            self._kernel.coverage[f"second entry, of a task that was {before}"] += 1
        for signal in self.queue_signals.values():
            signal.set()

    def sight(self, task_id: str, by: str) -> Sight:
        """What one incarnation knows of its own enqueues of a task."""
        return self._sights[by, task_id]

    def pop(self, queue_ids: Sequence[str], by: str) -> str | None:
        """The first entry of the first queue that has one. The task's status stays `queued`."""
        for queue_id in queue_ids:
            queue = self.queues[queue_id]
            if queue:
                task_id = queue.popleft()
                self.ledger.popped.append((task_id, by))
                return task_id
        return None

    def started(self, task_id: str) -> None:
        """Answers everybody, whoever started it first: it is no claim."""
        task = self._task(task_id)
        if task.status not in _MAY_START:
            raise Refused("wrong_status", f"{task_id} is {task.status}")
        self._leave_queues(task_id)
        self._becomes(task, TaskStatus.IN_PROGRESS)

    def end(self, task_id: str, status: TaskStatus) -> None:
        task = self._task(task_id)
        if task.status not in _MAY_END[status]:
            raise Refused("wrong_status", f"{task_id} is {task.status}")
        self._leave_queues(task_id)
        self._becomes(task, status)

    def _leave_queues(self, task_id: str) -> None:
        for queue in self.queues.values():
            if task_id in queue:
                queue.remove(task_id)

    def _task(self, task_id: str) -> SimTask:
        task = self.tasks.get(task_id)
        if task is None:
            raise Refused("no_such_task", f"no task {task_id}")
        return task


class SimulatedTasks:
    """The dispatcher's `Tasks` port for one incarnation, over the simulated server."""

    def __init__(self, server: ClearML, process: Process) -> None:
        self._server = server
        self._by = process.writer

    async def queue_id(self, name: str) -> str:
        queue_id = f"q-{name}"  # the production adapter remembers ids: no request each time
        if queue_id not in self._server.queues:
            raise Refused("unknown_queue", f"no queue {name}")
        return queue_id

    async def create(self, project: str, body: Mapping[str, Any]) -> str:
        found: str = await _effect("tasks.create", lambda: self._server.create(body))
        return found

    async def enqueue(self, task_id: str, queue_id: str) -> None:
        server, by = self._server, self._by
        sight = server.sight(task_id, by)
        blind, sight.is_blind = sight.is_blind, True
        try:
            await _effect("tasks.enqueue", lambda: server.enqueue(task_id, queue_id, by, blind=blind))
        except NotDone:
            sight.is_blind = blind
            raise

    async def status(self, task_id: str) -> TaskStatus:
        found: TaskStatus = await _read("tasks.status", lambda: self._server.status(task_id, self._by))
        return found

    async def find(self, run_ids: Sequence[str]) -> Sequence[FoundTask]:
        found: list[FoundTask] = await _read("tasks.find", lambda: self._server.find(run_ids))
        return found

    async def close(self, task_id: str, was: TaskStatus, status: TaskStatus, message: str) -> None:
        server = self._server

        def apply() -> None:
            if was is TaskStatus.QUEUED:
                server.dequeue(task_id, status if status is TaskStatus.STOPPED else TaskStatus.IN_PROGRESS)
            if was is not TaskStatus.QUEUED or status is not TaskStatus.STOPPED:
                server.end(task_id, status)

        await _effect("tasks.close", apply)

    async def reveal_model(self, model_id: str) -> None:
        await _effect("models.reveal", lambda: self._server.reveal_model(model_id))

    async def delete_model(self, model_id: str) -> None:
        await _effect("models.delete", lambda: self._server.unseen_models.pop(model_id, None))

    async def reset(self, task_id: str) -> None:
        await _effect("tasks.reset", lambda: self._server.reset(task_id, by_us=True))

    async def restart(self, task_id: str) -> None:
        await _effect("tasks.restart", lambda: self._server.started(task_id))

    async def delete(self, task_id: str) -> None:
        await _effect("tasks.delete", lambda: self._server.delete(task_id))

    async def adoptable(self, task_id: str) -> str | None:
        def apply() -> str | None:
            task = self._server.tasks.get(task_id)
            return None if task is not None and task.parent is not None else "no clone"

        found: str | None = await _read("tasks.adoptable", apply)
        return found

    async def survey(self, task_ids: Sequence[str]) -> Survey:
        found: Survey = await _read("survey", lambda: self._server.survey(task_ids, self._by))
        return found


def _effect(label: str, apply: Any) -> Call:
    return Call(
        label, apply, unknown=lambda: OutcomeUnknown(label), unavailable=lambda: NotDone(label), refusals=(Refused,)
    )


def _read(label: str, apply: Any) -> Call:
    return Call(label, apply, unavailable=lambda: NotDone(label), refusals=(Refused,))
