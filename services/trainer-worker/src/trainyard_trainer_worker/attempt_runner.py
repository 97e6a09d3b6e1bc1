"""The protocol's `Training`: the child of an attempt, its heartbeats, its console and scalars in ClearML."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainyard_runtime.clearml import ClearMLClient
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
from trainyard_trainer_worker.heartbeats import Heartbeats, Send
from trainyard_trainer_worker.ports import Job
from trainyard_trainer_worker.protocol import Worker
from trainyard_trainer_worker.spec import AttemptSpec, Detail, Failed, FetchedData, Outcome, Stopped, Succeeded

PhaseSeconds = Callable[[str, float], None]
MIN_DEADLINE_S = 1.0
SHUTDOWN_GRACE_S = 0.7
"""What the child gets of the 1.7 s in which this process must end; the rest is for its outcome."""


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
    ) -> None:
        self._bounds = bounds
        self._worker = worker
        self._client = client
        self._send_heartbeat = send_heartbeat
        self._stopping = stopping
        self._on_phase = on_phase
        self._data = data
        self._log = get_logger(component="attempt")

    def work_dir_of(self, job: Job) -> Path:
        """The folder of an attempt, under one claim only."""
        return self._bounds.work_dir / f"{job.run_id}-{job.attempt}-{job.claim}"

    async def run(self, job: Job) -> Outcome:
        """See ports.Training."""
        if self._stopping.is_set():
            return Stopped(Reason.HOST_SHUTDOWN)
        async with (
            ClearMLReporting(self._client, job.task.id, self._worker.name) as reporting,
            Heartbeats(job, self._worker, self._send_heartbeat) as heartbeats,
        ):
            reporting.line(
                f"[trainyard] run {job.run_id}, attempt {job.attempt}, on {self._worker.name}, "
                f"deadline in {job.deadline_s:g} s"
            )
            heartbeats.phase(PhaseStarted(Phase.DATA))
            started = time.monotonic()
            fetched = await self._fetched(job, reporting)
            if isinstance(fetched, Failed | Stopped):
                reporting.line(f"[trainyard] {_sentence(fetched)}")
                return fetched
            try:
                child = await TrainingChild.start(self._spec(job, fetched, time.monotonic() - started))
            except OSError as problem:
                return Failed(
                    Reason.INTERNAL, Detail.UNEXPECTED, f"the training process could not be started: {problem}"
                )
            stopper = asyncio.create_task(self._stop_with_us(child), name=f"stopper-{child.pid}")
            try:
                async for event in child.events():
                    self._pass_on(event, reporting, heartbeats)
                outcome = await child.outcome()
            finally:
                stopper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await stopper
            reporting.line(f"[trainyard] {_sentence(outcome)}")
            if self._stopping.is_set():
                reporting.hurry()
        return outcome

    async def _fetched(self, job: Job, reporting: ClearMLReporting) -> FetchedData | Failed | Stopped | None:
        """The data as a file for the child; None where the child finds it by itself. Ends with this process."""
        deadline_s = max(MIN_DEADLINE_S, job.deadline_s)
        fetching = asyncio.ensure_future(
            self._data.fetch(job.request.get("dataset") or {}, self.work_dir_of(job), deadline_s)
        )
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        try:
            await asyncio.wait([fetching, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                return Stopped(Reason.HOST_SHUTDOWN)
            fetched = await fetching
        finally:
            for task in (fetching, stopping):
                task.cancel()
            await asyncio.gather(fetching, stopping, return_exceptions=True)
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

    async def _stop_with_us(self, child: TrainingChild) -> None:
        await self._stopping.wait()
        self._log.info("training stopped", action="stop_child", child_pid=child.pid)
        await child.stop(Reason.HOST_SHUTDOWN, SHUTDOWN_GRACE_S)

    def _pass_on(self, event: ChildEvent, reporting: ClearMLReporting, heartbeats: Heartbeats) -> None:
        if isinstance(event, Console):
            reporting.line(event.line)
        elif isinstance(event, Scalar):
            reporting.scalar(event.title, event.series, event.value, event.iteration)
        elif isinstance(event, Progress):
            heartbeats.progress(event)
        elif isinstance(event, PhaseStarted):
            heartbeats.phase(event)
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
