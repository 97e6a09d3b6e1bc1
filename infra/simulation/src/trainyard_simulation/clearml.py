"""The simulated ClearML server: its table of statuses, its queues, and a ledger of what reached it.

The rules are those of the design's clearml.md. A read follows all writes that were applied before; an answer may be
lost, a request may come late or twice (see `kernel`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainyard_dispatcher.ports import FoundTask, NotDone, OutcomeUnknown, Refused, TaskStatus
from trainyard_simulation.effects import Call, Signal
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

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
    """One task as it stands. `reopened`: a late `started` came after it had been closed."""

    task_id: str
    body: Mapping[str, Any]
    status: TaskStatus = TaskStatus.CREATED
    reopened: bool = False

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


class ClearML:
    """One server with the queues that `queue_names` lists; a queue's id is its name with `q-` before it."""

    def __init__(self, kernel: Kernel, queue_names: Sequence[str]) -> None:
        self._kernel = kernel
        self.tasks: dict[str, SimTask] = {}
        self.by_run: dict[str, list[SimTask]] = defaultdict(list)
        self.queues: dict[str, deque[str]] = {f"q-{name}": deque() for name in queue_names}
        self.ledger = ServerLedger()
        self.queue_signals: dict[str, Signal] = {}
        self._sights: dict[tuple[str, str], Sight] = defaultdict(Sight)

    def create(self, body: Mapping[str, Any]) -> str:
        task = SimTask(f"task-{len(self.tasks) + 1:03}", body)
        self.tasks[task.task_id] = task
        self.by_run[task.parameter("run_id")].append(task)
        return task.task_id

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
        ]

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
        before, task.status = task.status, TaskStatus.QUEUED
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
        task.reopened |= task.status in (TaskStatus.STOPPED, TaskStatus.COMPLETED)
        task.status = TaskStatus.IN_PROGRESS

    def end(self, task_id: str, status: TaskStatus) -> None:
        task = self._task(task_id)
        if task.status not in _MAY_END[status]:
            raise Refused("wrong_status", f"{task_id} is {task.status}")
        self._leave_queues(task_id)
        task.reopened = False
        task.status = status

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

    async def close(self, task_id: str, status: TaskStatus, message: str) -> None:
        await _effect("tasks.close", lambda: self._server.end(task_id, status))


def _effect(label: str, apply: Any) -> Call:
    return Call(
        label, apply, unknown=lambda: OutcomeUnknown(label), unavailable=lambda: NotDone(label), refusals=(Refused,)
    )


def _read(label: str, apply: Any) -> Call:
    return Call(label, apply, unavailable=lambda: NotDone(label), refusals=(Refused,))
