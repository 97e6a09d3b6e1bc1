"""The worker's loop: pop, handle, pop again; woken by the log, else looking every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from trainyard_runtime.clock import steady
from trainyard_runtime.logs import bound, get_logger
from trainyard_trainer_worker.clearml_queue import REPORT_EVERY_S, ClearMLQueues, Popped
from trainyard_trainer_worker.kafka_lifecycle import KafkaLifecycle, News
from trainyard_trainer_worker.metrics import WorkerMetrics
from trainyard_trainer_worker.ports import Ending
from trainyard_trainer_worker.protocol import Handled

T = TypeVar("T")

LOG_CHECK_S: Final = 5.0
NOT_READY_CHECK_S: Final = 0.25
MAX_PAUSE_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.1


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

    async def wait(self, tries: int) -> None:
        """See ports.Patience."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s(tries))
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


class Serving:
    """One slot over the worker's queues."""

    def __init__(
        self,
        queues: ClearMLQueues,
        log: KafkaLifecycle,
        handle: Callable[[Popped], Awaitable[Handled]],
        metrics: WorkerMetrics,
        *,
        poll_s: float,
        work_dir: Path,
        stopping: asyncio.Event,
    ) -> None:
        self._queues = queues
        self._lifecycle = log
        self._handle = handle
        self._metrics = metrics
        self._poll_s = poll_s
        self._work_dir = work_dir
        self._stopping = stopping
        self._wake = asyncio.Event()
        self._log = get_logger(component="serving")
        self.log_is_readable = False

    def wake(self) -> None:
        """Look at the queues now."""
        self._wake.set()

    async def serve(self) -> None:
        """Pop and handle until `stopping`."""
        self._clear_work()
        refusals = 0
        while not self._stopping.is_set():
            self._wake.clear()
            if not self._queues.is_registered and not await self._queues.register():
                await self._pause(pause_s(refusals := refusals + 1))
                continue
            refusals = 0
            if not self.log_is_readable:  # nothing could be claimed: leave the tasks to others
                await self._pause(NOT_READY_CHECK_S)
                continue
            popped = await self._queues.pop()
            if popped is None:
                await self._pause(self._poll_s)
                continue
            await self._work_on(popped)

    async def watch_log(self) -> None:
        """Keep `log_is_readable` true to the facts. Never returns."""
        while True:
            readable = await self._lifecycle.is_readable(LOG_CHECK_S)
            if readable is not self.log_is_readable:
                self._log.info("log readable" if readable else "log not readable", action="watch_log")
                self.log_is_readable = readable
                self._wake.set()
            await asyncio.sleep(LOG_CHECK_S if readable else NOT_READY_CHECK_S)

    async def report_for_ever(self) -> None:
        """Signs of life to ClearML. Never returns."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            await self._queues.report_again()

    async def _work_on(self, popped: Popped) -> None:
        with bound(task_id=popped.task_id, queue=popped.queue), self._metrics.busy.track_inprogress():
            self._log.info("popped", action="pop")
            telling = asyncio.create_task(self._queues.report(popped))
            try:
                handled = await self._handle(popped)
            finally:
                self._clear_work()
            await telling
            self._metrics.handled.labels(handled.value).inc()
            self._log.info("handled", action="handle", result=handled.value)
        if not self._stopping.is_set():
            await self._queues.report(None)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    def _clear_work(self) -> None:
        """What an attempt left on this disk: its results are published, or void."""
        if self._work_dir.is_dir():
            for path in self._work_dir.iterdir():
                shutil.rmtree(path, ignore_errors=True)
