"""ClearML's queues as a worker serves them: registered under a name, popped in order, reported on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused, ClearMLUnknownOutcome
from trainyard_runtime.logs import get_logger

REGISTRATION_TIMEOUT_S: Final = 600
"""ClearML forgets a worker that is silent for longer."""

REPORT_EVERY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Popped:
    """A task that ClearML gave to us, and the queue's name it stood in."""

    task_id: str
    queue: str
    queue_id: str


class ClearMLQueues:
    """The queues of one worker. For one coroutine that pops and one that reports."""

    def __init__(self, client: ClearMLClient, worker: str, queues: tuple[str, ...]) -> None:
        self._client = client
        self._worker = worker
        self._names = queues
        self._ids: dict[str, str] = {}
        self._current: Popped | None = None
        self._answers = False
        self._log = get_logger(component="clearml_queue", worker=worker)

    @property
    def worker(self) -> str:
        """The name under which ClearML shows who serves them."""
        return self._worker

    @property
    def is_registered(self) -> bool:
        """True from a registration until ClearML refuses us."""
        return bool(self._ids)

    @property
    def is_served(self) -> bool:
        """True where we are registered and ClearML's last answer was one."""
        return self.is_registered and self._answers

    async def register(self) -> bool:
        """Find (or create) the queues and register; False where ClearML does not let us now."""
        try:
            ids = {name: await self._client.ensure_queue(name) for name in self._names}
            await self._client.worker_register(
                self._worker, list(ids.values()), timeout_s=REGISTRATION_TIMEOUT_S, tags=("trainyard",)
            )
        except ClearMLError as problem:
            self._log.warning("not registered", action="register", error=str(problem))
            return False
        self._ids = ids
        self._answers = True
        self._log.info("registered", action="register", queues=list(ids))
        return True

    async def pop(self) -> Popped | None:
        """The first task of the first queue that has one. A pop whose answer is lost gives nobody the task."""
        for name, queue_id in self._ids.items():
            try:
                task_id = await self._client.get_next_task(queue_id)
            except ClearMLUnknownOutcome as problem:
                self._answers = False
                self._log.warning("pop with a lost answer", action="pop", queue=name, error=str(problem))
                return None
            except ClearMLRefused as refusal:
                self._log.warning("pop refused", action="pop", queue=name, error=str(refusal))
                self._ids = {}  # queue deleted, or the server is another one: register again
                return None
            except ClearMLError as problem:
                self._answers = False
                self._log.warning("pop failed", action="pop", queue=name, error=str(problem))
                return None
            self._answers = True
            if task_id is not None:
                return Popped(task_id, name, queue_id)
        return None

    async def report(self, current: Popped | None) -> None:
        """Tell ClearML what we do now. Best effort; a refusal makes us register again."""
        self._current = current
        try:
            await self._client.worker_status_report(
                self._worker,
                list(self._ids.values()),
                timestamp_ms=int(time.time() * 1000),
                task_id=current.task_id if current else None,
                queue_id=current.queue_id if current else None,
            )
        except ClearMLRefused as refusal:
            self._log.warning("report refused", action="report", error=str(refusal))
            self._ids = {}
        except ClearMLError as problem:
            self._log.warning("report failed", action="report", error=str(problem))

    async def report_again(self) -> None:
        """The last report once more, as a sign of life."""
        if self.is_registered:
            await self.report(self._current)

    async def unregister(self) -> None:
        """Leave. Best effort."""
        if not self.is_registered:
            return
        try:
            await self._client.worker_unregister(self._worker)
        except ClearMLError as problem:
            self._log.warning("not unregistered", action="unregister", error=str(problem))
        self._ids = {}
