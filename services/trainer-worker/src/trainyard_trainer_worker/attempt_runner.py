"""The protocol's `Training`: the child of an attempt, its heartbeats, its console and scalars in ClearML."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainyard_runtime.clearml import ClearMLClient
from trainyard_runtime.clock import steady
from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.logs import get_logger
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_events import (
    ChildEvent,
    Console,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Progress,
    Scalar,
    Warned,
)
from trainyard_trainer_worker.child_process import TrainingChild
from trainyard_trainer_worker.clearml_reporting import ClearMLReporting
from trainyard_trainer_worker.data.fetching import DataFetcher
from trainyard_trainer_worker.fork_servers import ForkServer, ForkServers, ForkServerUnavailable
from trainyard_trainer_worker.guard import Guard
from trainyard_trainer_worker.heartbeats import Heartbeats, Send
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.outcome_facts import ordered
from trainyard_trainer_worker.ports import Job
from trainyard_trainer_worker.protocol import Worker
from trainyard_trainer_worker.spec import AttemptSpec, Detail, Failed, FetchedData, Outcome, Stopped, Succeeded

T = TypeVar("T")
PhaseSeconds = Callable[[str, float], None]
MIN_DEADLINE_S = 1.0
SHUTDOWN_GRACE_S = 0.7
"""What the child gets of the 1.7 s in which this process must end; the rest is for its outcome. A cancelled run's child
gets no more: it is to be gone within 2 s."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a training child may use. `memory_limit_bytes` None: not bounded."""

    work_dir: Path
    data_roots: tuple[str, ...]
    n_jobs: int
    memory_limit_bytes: int | None = None


class AttemptRunner:
    """Runs one child at a time per call; `stopping` set ends it as a shutdown of this host."""

    def __init__(
        self,
        bounds: Bounds,
        worker: Worker,
        client: ClearMLClient,
        send_heartbeat: Send,
        stopping: asyncio.Event,
        on_phase: PhaseSeconds,
        *,
        data: DataFetcher,
        fork_servers: ForkServers,
    ) -> None:
        self._bounds = bounds
        self._worker = worker
        self._client = client
        self._send_heartbeat = send_heartbeat
        self._stopping = stopping
        self._on_phase = on_phase
        self._data = data
        self._fork_servers = fork_servers
        self._beats: dict[str, Heartbeats] = {}
        self._log = get_logger(component="attempt")

    def work_dir_of(self, job: Job) -> Path:
        """The folder of an attempt, under one claim only."""
        return self._bounds.work_dir / f"{job.run_id}-{job.attempt}-{job.claim}"

    async def run(self, job: Job, lease: Lease) -> Outcome:
        """See ports.Training. The heartbeats go on until `over`, where there is a model to be published."""
        if self._stopping.is_set():
            return Stopped(Reason.HOST_SHUTDOWN)
        beats = self._beats[job.claim] = Heartbeats(job, self._worker, self._send_heartbeat)
        try:
            async with ClearMLReporting(self._client, job.task.id, self._worker.name, self._stopping) as reporting:
                beats.start()
                reporting.line(
                    f"[trainyard] run {job.run_id}, attempt {job.attempt}, on {self._worker.name}, "
                    f"deadline in {job.deadline_s:g} s"
                )
                outcome = await self._train(job, lease, reporting, beats)
                if not isinstance(outcome, Succeeded):
                    await self.over(job)
                reporting.line(f"[trainyard] {_sentence(outcome)}")
        except BaseException:
            await self.over(job)
            raise
        beats.publishing()
        return outcome

    async def over(self, job: Job) -> None:
        """Nothing more is done for the attempt: its heartbeats end. Harmless twice."""
        beats = self._beats.pop(job.claim, None)
        if beats is not None:
            await beats.stop()

    async def _train(self, job: Job, lease: Lease, reporting: ClearMLReporting, beats: Heartbeats) -> Outcome:
        beats.phase(PhaseStarted(Phase.DATA))
        started = time.monotonic()
        fetched = await self._fetched(job, lease, reporting)
        if isinstance(fetched, Failed | Stopped):
            return fetched
        warmed = await self._unless_asked(self._warm_server(job, started), lease)
        if isinstance(warmed, Stopped):
            return warmed
        try:
            spec = self._spec(job, fetched, time.monotonic() - started)
            child = await self._unless_asked(TrainingChild.start(spec, fork_server=warmed), lease)
        except OSError as problem:
            return Failed(Reason.INTERNAL, Detail.UNEXPECTED, f"the training process could not be started: {problem}")
        if isinstance(child, Stopped):
            return child
        try:
            outcome = await self._followed(child, lease, reporting, beats)
        finally:
            await child.stop(Reason.INTERNAL, 0.0)  # whatever broke, nothing of it trains on
        stopped_by_order = isinstance(outcome, Stopped) and not self._stopping.is_set()
        return ordered(lease) if stopped_by_order and lease.order is not None else outcome

    async def _warm_server(self, job: Job, started: float) -> ForkServer | None:
        """The trainer's fork server; None where none can be had: the child starts as a process of its own then."""
        server = self._fork_servers.of(str(job.request.get("trainer")))
        left_s = max(MIN_DEADLINE_S, job.deadline_s - (time.monotonic() - started))
        with contextlib.suppress(ForkServerUnavailable, TimeoutError):
            async with asyncio.timeout(left_s):
                await server.warm()
            return server
        return None

    async def _followed(
        self, child: TrainingChild, lease: Lease, reporting: ClearMLReporting, beats: Heartbeats
    ) -> Outcome:
        """Let the child train under guard, and pass on what it tells, until it has ended."""
        async with Guard(lease, child.pid, beats.frozen):
            child.begin()
            stopper = asyncio.create_task(self._stop_in_time(child, lease), name=f"stopper-{child.pid}")
            try:
                async for event in child.events():
                    self._pass_on(event, reporting, beats)
                return await child.outcome()
            finally:
                stopper.cancel()
                await asyncio.gather(stopper, return_exceptions=True)

    async def _fetched(
        self, job: Job, lease: Lease, reporting: ClearMLReporting
    ) -> FetchedData | Failed | Stopped | None:
        """The data as a file for the child; None where the child finds it by itself. Ends with this process, and by
        the lease's order."""
        deadline_s = max(MIN_DEADLINE_S, job.deadline_s)
        fetched = await self._unless_asked(
            self._data.fetch(job.request.get("dataset") or {}, self.work_dir_of(job), deadline_s), lease
        )
        if isinstance(fetched, FetchedData):
            reporting.line(
                f"[trainyard] data: {fetched.size_bytes} bytes from {fetched.location}, SHA-256 {fetched.sha256}"
            )
        return fetched

    def _spec(self, job: Job, data: FetchedData | None, spent_s: float) -> AttemptSpec:
        return AttemptSpec(
            run_id=job.run_id,
            attempt=job.attempt,
            claim=job.claim,
            request=job.request,
            work_dir=str(self.work_dir_of(job)),
            data_roots=self._bounds.data_roots,
            deadline_s=max(MIN_DEADLINE_S, job.deadline_s - spent_s),
            n_jobs=self._bounds.n_jobs,
            memory_limit_bytes=self._bounds.memory_limit_bytes,
            data=data,
        )

    async def _unless_asked(self, work: Coroutine[Any, Any, T], lease: Lease) -> T | Stopped:
        """What `work` answers; it is cancelled where this process is to end, or the log orders it."""
        working = asyncio.create_task(work, name="before-child")
        stopping = asyncio.create_task(self._asked_to_stop(lease), name="stopping")
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return Stopped(Reason.HOST_SHUTDOWN) if lease.order is None else ordered(lease)
            return await working
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _asked_to_stop(self, lease: Lease) -> None:
        """Wait until this process is to end, or the log orders it."""
        ordered_now = asyncio.Event()
        unlisten = lease.listen(lambda: ordered_now.set() if lease.order is not None else None)
        waiting = [asyncio.create_task(self._stopping.wait()), asyncio.create_task(ordered_now.wait())]
        try:
            if lease.order is None:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unlisten()
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _stop_in_time(self, child: TrainingChild, lease: Lease) -> None:
        await self._asked_to_stop(lease)
        reason = Reason.HOST_SHUTDOWN if lease.order is None else ordered(lease).reason
        self._log.info("training stopped", action="stop_child", child_pid=child.pid, reason=reason.value)
        await child.stop(reason, SHUTDOWN_GRACE_S if lease.is_valid(steady()) else 0.0)

    def _pass_on(self, event: ChildEvent, reporting: ClearMLReporting, beats: Heartbeats) -> None:
        if isinstance(event, Console):
            reporting.line(event.line)
        elif isinstance(event, Scalar):
            reporting.scalar(event.title, event.series, event.value, event.iteration)
        elif isinstance(event, Progress):
            beats.progress(event)
        elif isinstance(event, PhaseStarted):
            self._log.info("phase began", action="phase", phase=event.phase.value)
            beats.phase(event)
            if event.phase is Phase.FIT:
                failpoint("W4")
        elif isinstance(event, PhaseEnded):
            self._on_phase(event.phase.value, event.seconds)
            reporting.line(f"[trainyard] {event.phase.value}: {event.seconds:.2f} s")
        elif isinstance(event, Warned):
            reporting.line(f"[trainyard] warning: {event.message}")


def _sentence(outcome: Outcome) -> str:
    if isinstance(outcome, Succeeded):
        results = outcome.results
        return f"trained: {results.get('metric')} {results.get('value')}, baseline {results.get('baseline')}"
    if isinstance(outcome, Failed):
        return f"failed: {outcome.reason.value}/{outcome.detail}: {outcome.message}"
    return f"stopped: {outcome.reason.value}"
