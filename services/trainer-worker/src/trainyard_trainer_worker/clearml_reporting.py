"""Console lines and scalars of an attempt into its ClearML task: batched, best effort, never in training's way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused, log_event, scalar_event
from trainyard_runtime.logs import get_logger
from trainyard_trainer_worker.tracking_buffer import Batch, Point, TrackingBuffer

FLUSH_EVERY_S: Final = 1.0
MAX_PAUSE_S: Final = 15.0
CLOSING_S: Final = 3.0
"""How long the end of an attempt waits for what is left to be told."""

HURRIED_CLOSING_S: Final = 0.2
"""The same when the process ends: the outcome must reach the log before it does."""

CLOSING_PAUSE_S: Final = 0.2

_log = get_logger(component="reporting")


class ClearMLReporting:
    """`async with` it around an attempt; `line` and `scalar` return at once.

    At most one call a second. A batch whose answer is lost is sent again (a console line may then show twice); what
    ClearML refuses is dropped. While ClearML is away at most 2 MiB of lines and 5,000 points wait.
    """

    def __init__(
        self,
        client: ClearMLClient,
        task_id: str,
        worker: str,
        stopping: asyncio.Event,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Once `stopping` is set, the end of the attempt waits less for ClearML."""
        self._client = client
        self._task_id = task_id
        self._worker = worker
        self._now = now
        self._buffer = TrackingBuffer()
        self._unsent: Batch | None = None
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._stopping = stopping
        self._loop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop_task = asyncio.create_task(self._send_for_ever(), name=f"report-{self._task_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._news.set()
        if self._loop_task is None:
            return
        await self._wait_for_the_rest(self._loop_task)
        if not self._loop_task.done():
            _log.warning("console and scalars not all told", action="report", task_id=self._task_id)
            self._loop_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop_task

    async def _wait_for_the_rest(self, telling: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(self._stopping.wait(), name=f"stopping-{self._task_id}")
        try:
            await asyncio.wait([telling, stopping], timeout=CLOSING_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
        if self._stopping.is_set():
            await asyncio.wait([telling], timeout=HURRIED_CLOSING_S)

    def line(self, text: str) -> None:
        """Add a line to the task's console."""
        self._buffer.line(text, self._now_ms())
        self._news.set()

    def scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        """Add a point to the task's plots."""
        self._buffer.point(Point(title, series, value, iteration, self._now_ms()))
        self._news.set()

    async def _send_for_ever(self) -> None:
        pause_s = FLUSH_EVERY_S
        while True:
            if self._unsent is None and self._buffer.is_empty:
                if self._closing.is_set():
                    return
                self._news.clear()
                await self._news.wait()
            sent = await self._flush()
            pause_s = FLUSH_EVERY_S if sent else min(MAX_PAUSE_S, pause_s * 2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()
            if self._closing.is_set() and not sent:
                await asyncio.sleep(CLOSING_PAUSE_S)

    async def _flush(self) -> bool:
        batch = self._unsent or self._buffer.take(self._now_ms())
        if not batch:
            return True
        try:
            await self._client.add_events(self._events(batch))
        except ClearMLRefused as refusal:
            _log.warning("console and scalars refused", action="report", task_id=self._task_id, error=str(refusal))
        except ClearMLError as problem:
            _log.warning("console and scalars not told yet", action="report", task_id=self._task_id, error=str(problem))
            self._unsent = batch
            return False
        self._unsent = None
        return True

    def _events(self, batch: Batch) -> list[dict[str, Any]]:
        events = [
            scalar_event(
                self._task_id,
                point.title,
                point.series,
                point.value,
                iteration=point.iteration,
                timestamp_ms=point.at_ms,
                worker=self._worker,
            )
            for point in batch.points
        ]
        if batch.text:
            events.append(log_event(self._task_id, batch.text, timestamp_ms=batch.text_at_ms, worker=self._worker))
        return events

    def _now_ms(self) -> int:
        return int(self._now() * 1000)
