"""Training under simulation: a child that computes for a while, beside its heartbeats, frozen by a watchdog.

The child is a process of its own on its worker's host. It computes on while its worker is paused, stands still while
the whole host is paused, and dies with its worker. The watchdog knows only what the worker told it of the lease; it
stands still with the host, and fires a moment after the host has resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trainyard_runtime.kafka.records import LogUnavailable
from trainyard_schemas.vocabulary import Reason
from trainyard_simulation.broker import Broker
from trainyard_simulation.effects import Signal, Sleep
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.outcome_facts import ordered
from trainyard_trainer_worker.ports import Job
from trainyard_trainer_worker.spec import Failed, ModelFile, Outcome, Stopped, Succeeded

WATCHDOG_FIRES_S = 0.05
"""How long after a host's resumption an old child may still compute."""

_MODEL = ModelFile("model.tar.gz", "0" * 64, 1)


@dataclass(slots=True)
class Execution:
    """One training that really began: the harness's own knowledge, which no log holds.

    `spans` are the times in which it computed; `grace_spans` those moments in which it may, after its host resumed.
    """

    run_id: str
    attempt: int
    task_id: str
    claim: str
    by: str
    began_at: float
    spans: list[tuple[float, float]] = field(default_factory=list)
    grace_spans: list[tuple[float, float]] = field(default_factory=list)


class Child:
    """One child and its watchdog. `done` is set when it has computed for `work_s`."""

    def __init__(self, kernel: Kernel, execution: Execution, work_s: float, lease: Lease, changed: Signal) -> None:
        self._kernel = kernel
        self._execution = execution
        self._left_s = work_s
        self._lease = lease
        self._changed = changed
        self._since: float | None = None
        self._is_grace = False
        self._ticket = 0
        self._host_paused_until = 0.0
        self.is_done = False
        self.is_dead = False
        self._look()

    def told(self) -> None:
        """The worker told the watchdog of a change of the lease."""
        if not self.is_dead and not self.is_done:
            self._look()

    def host_pauses(self, until: float) -> None:
        """Everything on the host stands still; then the child goes on a moment before the watchdog looks."""
        if self.is_dead or self.is_done:
            return
        self._stop()
        self._host_paused_until = until
        self._ticket += 1
        self._kernel.after(until - self._kernel.now, self._host_resumes, self._ticket)

    def die(self) -> None:
        """It is killed, or its parent died."""
        self._stop()
        self.is_dead = True

    def _host_resumes(self, ticket: int) -> None:
        if ticket != self._ticket or self.is_dead or self.is_done:
            return
        self._is_grace = not self._lease.is_valid(self._kernel.now)
        if self._is_grace:
            self._kernel.coverage["a resumed host computes before its watchdog fires"] += 1
        self._since = self._kernel.now
        self._schedule(WATCHDOG_FIRES_S)

    def _look(self) -> None:
        """The watchdog's decision: compute while the lease is valid."""
        now = self._kernel.now
        if now < self._host_paused_until:
            return
        self._stop()
        if not self._lease.is_valid(now):
            self._kernel.coverage["training frozen"] += 1
            return
        self._since = now
        self._schedule(self._lease.expires_at - now)

    def _schedule(self, at_most_s: float) -> None:
        self._ticket += 1
        self._kernel.after(min(self._left_s, at_most_s), self._due, self._ticket)

    def _due(self, ticket: int) -> None:
        if ticket != self._ticket or self.is_dead or self.is_done:
            return
        self._stop()
        if self._left_s <= 1e-5:  # what a double can tell apart at this epoch
            self.is_done = True
            self._changed.set()
        else:
            self._look()

    def _stop(self) -> None:
        if self._since is None:
            return
        span = (self._since, self._kernel.now)
        (self._execution.grace_spans if self._is_grace else self._execution.spans).append(span)
        self._left_s -= span[1] - span[0]
        self._since, self._is_grace = None, False


class SimTraining:
    """The protocol's `Training`: time passes; then the attempt succeeds, fails for its data, or its host shuts down."""

    def __init__(self, kernel: Kernel, broker: Broker, process: Process, executions: list[Execution]) -> None:
        self._kernel = kernel
        self._broker = broker
        self._process = process
        self._executions = executions

    async def run(self, job: Job, lease: Lease) -> Outcome:
        kernel, rng, process = self._kernel, self._kernel.rng, self._process
        execution = Execution(job.run_id, job.attempt, job.task.id, job.claim, process.writer, kernel.now)
        self._executions.append(execution)
        kernel.note(process.writer, f"trains {job.task.id}")
        changed = Signal(kernel)
        longest_s = 300.0 if rng.random() < 0.25 else 20.0
        child = Child(kernel, execution, 0.05 + rng.random() ** 3 * longest_s, lease, changed)
        process.children.append(child)
        unlisten = (lease.listen(child.told), lease.listen(changed.set))
        beating = kernel.spawn(process, self._beat(job.claim), "heartbeats")
        try:
            while not child.is_done and lease.order is None:
                await changed.wait(3_600.0)
        finally:
            beating.close()
            for end in unlisten:
                end()
            child.die()
            process.children.remove(child)
        if lease.order is not None:
            kernel.coverage["training ended by an order"] += 1
            return ordered(lease)
        luck = rng.random()
        if luck < 0.7:
            return Succeeded({"metric": "accuracy", "value": 0.9}, _MODEL)
        if luck < 0.8:
            return Failed(Reason.INVALID_DATASET, "label_missing", "no such column")
        return Stopped(Reason.HOST_SHUTDOWN)

    async def _beat(self, claim: str) -> None:
        while True:
            try:
                await self._broker.append_heartbeat(claim)
            except LogUnavailable:
                self._kernel.coverage["heartbeat lost"] += 1
            await Sleep(10.0)
