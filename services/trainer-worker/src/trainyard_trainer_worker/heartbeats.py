"""Signs of life and progress of one attempt, on `runs.heartbeats`: every 10 s, on news at most one a second."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from trainyard_runtime.kafka.async_log import LogWriter
from trainyard_runtime.kafka.records import LogError
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_schemas.events import AttemptHeartbeat, Event, encode_event, make_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_trainer_worker.child_events import Phase, PhaseStarted, Progress
from trainyard_trainer_worker.outcome_facts import SOURCE
from trainyard_trainer_worker.ports import Job
from trainyard_trainer_worker.protocol import Worker

EVERY_S: Final = 10.0
AT_MOST_EVERY_S: Final = 1.0
STARTING: Final = "starting"
PUBLISHING: Final = "publish"
FROZEN: Final = "frozen"

Send = Callable[[Event], Awaitable[None]]


class Heartbeats:
    """`start` it, tell it what happens, `stop` it. Best effort: a beat that fails is not repeated."""

    def __init__(self, job: Job, worker: Worker, send: Send, *, now: Callable[[], float] = time.time) -> None:
        self._job = job
        self._worker = worker
        self._send = send
        self._now = now
        self._phase = STARTING
        self._is_frozen = False
        self._progress: Progress | None = None
        self._seq = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger(component="heartbeats", run_id=job.run_id, attempt=job.attempt)

    def start(self) -> None:
        """Beat from now on."""
        self._news.set()
        self._task = asyncio.create_task(self._beat_for_ever(), name=f"heartbeats-{self._job.run_id}")

    async def stop(self) -> None:
        """Beat no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def publishing(self) -> None:
        """The training has ended, and its results are being stored."""
        self._phase, self._progress = PUBLISHING, None
        self._news.set()

    def frozen(self, is_frozen: bool) -> None:
        """The child was frozen since the log cannot be read, or thawed again."""
        self._is_frozen = is_frozen
        self._news.set()

    def phase(self, started: PhaseStarted) -> None:
        """The child entered a phase."""
        self._phase = started.phase.value
        if started.phase is not Phase.FIT:
            self._progress = None
        self._news.set()

    def progress(self, progress: Progress) -> None:
        """The fit got further."""
        self._progress = progress
        self._news.set()

    async def _beat_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._send(self.beat())
            except LogError as problem:
                self._log.warning("heartbeat lost", action="heartbeat", error=str(problem))
            await asyncio.sleep(AT_MOST_EVERY_S)

    def beat(self) -> Event:
        """The next beat."""
        self._seq += 1
        progress = self._progress
        fact = AttemptHeartbeat(
            run_id=self._job.run_id,
            attempt=self._job.attempt,
            claim=self._job.claim,
            worker=self._worker.name,
            seq=self._seq - 1,
            phase=FROZEN if self._is_frozen else self._phase,
            step=None if progress is None else progress.step,
            total=None if progress is None else progress.total,
            eta_s=None if progress is None else progress.eta_s,
            metrics={} if progress is None else {k: v for k, v in progress.metrics.items() if math.isfinite(v)},
        )
        return make_event(fact, source=SOURCE, writer=self._worker.writer, now=self._now())


def heartbeat_sender(settings: KafkaSettings, writer: LogWriter) -> Send:
    """Appends beats to their run's partition of `runs.heartbeats`."""
    topic = settings.topic(TopicName.RUNS_HEARTBEATS)

    async def send(event: Event) -> None:
        value, headers = encode_event(event)
        run_id = event.fact.run_id
        await writer.append(
            topic,
            partition=partition_of(run_id, RUN_PARTITIONS),
            key=run_id.encode(),
            value=value,
            headers=headers,
        )

    return send
