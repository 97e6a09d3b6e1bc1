"""One slot's loop: pop, handle, pop again; woken by the log, else looking every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from trainyard_runtime.clock import steady
from trainyard_runtime.logs import bound, get_logger
from trainyard_trainer_worker.clearml_queue import REPORT_EVERY_S, ClearMLQueues, Popped
from trainyard_trainer_worker.folders import clear
from trainyard_trainer_worker.kafka_lifecycle import KafkaLifecycle, News
from trainyard_trainer_worker.metrics import WorkerMetrics
from trainyard_trainer_worker.ports import Ending
from trainyard_trainer_worker.protocol import Handled

T = TypeVar("T")

LOG_CHECK_S: Final = 5.0
NOT_READY_CHECK_S: Final = 0.25
MAX_PAUSE_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.1
ENDING_MOMENT_S: Final = 0.5
"""Of the 1.7 s in which this process must end; the rest is for the outcome."""


def pause_s(tries: int) -> float:
    """Seconds to wait after the `tries`-th failure in a row."""
    return float(min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries - 1, 10)))


class StoppablePatience:
    """The protocol's time: pauses of 0.1 s, doubling up to 10 s, cut short by the end of the process."""

    def __init__(self, stopping: asyncio.Event, news: News) -> None:
        self._stopping = stopping
        self._news = news

    def now(self) -> float:
        """See ports.Patience."""
        return time.time()

    def steady(self) -> float:
        """See ports.Patience."""
        return steady()

    async def news(self, run_id: str, at_most_s: float) -> None:
        """See ports.Patience. The end of the process is for the training to notice, which ends the waiting too."""
        await self._news.of_run(run_id, at_most_s)

    async def unless_ending(self, work: Coroutine[Any, Any, T]) -> T:
        """See clearml_publishing.EndingPatience."""
        working = asyncio.create_task(work, name="unless-ending")
        stopping = asyncio.create_task(self._stopping.wait(), name="ending")
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait([working], timeout=ENDING_MOMENT_S)
            if not working.done():
                raise Ending
            return await working
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def wait(self, tries: int) -> None:
        """See ports.Patience."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s(tries)):
                await self._stopping.wait()
        if self._stopping.is_set():
            raise Ending


async def beside(background: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T:
    """See ports.Beside. A bug in `background` ends `work` too: nothing may be computed under an unkept claim."""
    keeping = asyncio.create_task(background, name="keep-claim")
    working = asyncio.create_task(work, name="attempt")
    try:
        await asyncio.wait([keeping, working], return_when=asyncio.FIRST_COMPLETED)
        if keeping.done() and keeping.exception() is not None:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            keeping.result()
        return await working
    finally:
        for task in (keeping, working):
            task.cancel()
        await asyncio.gather(keeping, working, return_exceptions=True)


class LogWatch:
    """Whether the log can be read now, for all slots of a process."""

    def __init__(self, log: KafkaLifecycle) -> None:
        self._lifecycle = log
        self._log = get_logger(component="serving")
        self.is_readable = False
        self.on_change: Callable[[], None] = lambda: None

    async def watch(self) -> None:
        """Keep `is_readable` true to the facts. Never returns."""
        while True:
            readable = await self._lifecycle.is_readable(LOG_CHECK_S)
            if readable is not self.is_readable:
                self._log.info("log readable" if readable else "log not readable", action="watch_log")
                self.is_readable = readable
                self.on_change()
            await asyncio.sleep(LOG_CHECK_S if readable else NOT_READY_CHECK_S)


class Slot:
    """One slot over the worker's queues: one task at a time."""

    def __init__(
        self,
        queues: ClearMLQueues,
        log_watch: LogWatch,
        handle: Callable[[Popped], Awaitable[Handled]],
        metrics: WorkerMetrics,
        *,
        poll_s: float,
        work_dir: Path,
        draining: asyncio.Event,
        stopping: asyncio.Event,
    ) -> None:
        """`draining`: pop no more. `stopping`: the process ends now."""
        self._queues = queues
        self._log_watch = log_watch
        self._handle = handle
        self._metrics = metrics
        self._poll_s = poll_s
        self._work_dir = work_dir
        self._draining = draining
        self._stopping = stopping
        self._wake = asyncio.Event()
        self._log = get_logger(component="serving")
        self.is_busy = False
        self.on_found: Callable[[], None] = lambda: None

    @property
    def is_served(self) -> bool:
        """True where ClearML knows this slot and its last answer was one."""
        return self._queues.is_served

    @property
    def is_woken(self) -> bool:
        """True from `wake` until the slot begins to look."""
        return self._wake.is_set()

    def wake(self) -> None:
        """Look at the queues now."""
        self._wake.set()

    async def serve(self) -> None:
        """Pop and handle until `draining`."""
        refusals = 0
        while not self._draining.is_set():
            self._wake.clear()
            if not self._queues.is_registered and not await self._queues.register():
                await self._pause(pause_s(refusals := refusals + 1))
                continue
            refusals = 0
            if not self._log_watch.is_readable:  # nothing could be claimed: leave the tasks to others
                await self._pause(NOT_READY_CHECK_S)
                continue
            popped = await self._queues.pop()
            if popped is None:
                await self._pause(self._poll_s)
                continue
            self.is_busy = True
            self.on_found()
            try:
                await self._work_on(popped)
            finally:
                self.is_busy = False

    async def report_for_ever(self) -> None:
        """Signs of life to ClearML. Never returns."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            await self._queues.report_again()

    async def unregister(self) -> None:
        """Leave ClearML. Best effort."""
        await self._queues.unregister()

    async def _work_on(self, popped: Popped) -> None:
        names = bound(task_id=popped.task_id, queue=popped.queue, worker=self._queues.worker)
        with names, self._metrics.busy.track_inprogress():
            self._log.info("popped", action="pop")
            telling = asyncio.create_task(self._queues.report(popped))
            try:
                handled = await self._handle(popped)
            finally:
                clear(self._work_dir)  # its results are published, or void
            await telling
            self._metrics.handled.labels(handled.value).inc()
            self._log.info("handled", action="handle", result=handled.value)
        if not self._stopping.is_set():
            await self._queues.report(None)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
