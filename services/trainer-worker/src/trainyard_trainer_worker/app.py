"""The trainer worker, put together: `build` makes it, `TrainerWorker.run` lets it work until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.health import HealthServer, Readiness
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_trainer_worker.attempts import Attempts, Shared
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.folders import Folders
from trainyard_trainer_worker.fork_servers import ForkServers
from trainyard_trainer_worker.kafka_lifecycle import News
from trainyard_trainer_worker.metrics import WorkerMetrics
from trainyard_trainer_worker.ports import Ending
from trainyard_trainer_worker.serving import LogWatch
from trainyard_trainer_worker.settings import TrainerWorkerSettings
from trainyard_trainer_worker.slots import Slots, drain
from trainyard_trainer_worker.wiring import wired

SERVICE = "trainer-worker"


class TrainerWorker:
    """One process's worker. `run` once, inside an event loop."""

    def __init__(
        self,
        settings: TrainerWorkerSettings,
        kafka: KafkaSettings,
        clearml: ClearMLSettings,
        data: DataSettings,
        folders: Folders,
    ) -> None:
        self._settings = settings
        self._data = data
        self._folders = folders
        self._kafka = kafka
        self._clearml = clearml
        self._log = get_logger(component="app")
        self.address = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; then take no more, give what runs `drain_s` seconds, end the children, tell the
        log and ClearML, and return within 2 s. SIGUSR1: take no more, and return when all that runs has ended."""
        loop, draining = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, draining.set)
        async with AsyncExitStack() as stack:
            stack.callback(loop.remove_signal_handler, signal.SIGUSR1)
            stopping = asyncio.Event()
            parts = (self._settings, self._kafka, self._clearml, self._data, self._folders)
            shared, news = await stack.enter_async_context(wired(*parts, draining, stopping))
            await self._serve(stack, shared, news, stop)

    async def _serve(self, stack: AsyncExitStack, shared: Shared, news: News, stop: asyncio.Event) -> None:
        settings, log_watch = self._settings, LogWatch(shared.log)
        metrics = WorkerMetrics(
            settings.slots,
            lambda: sum(attempts.outcomes.depth for attempts in all_attempts),
            lambda: float(slots.are_served),
        )
        names = settings.slot_names()
        all_attempts = [Attempts(shared, name, str(index), metrics) for index, name in enumerate(names)]
        slots = Slots([attempts.slot(log_watch, metrics) for attempts in all_attempts])
        log_watch.on_change = slots.wake_all
        news.on_queued, news.on_ready = slots.wake_one, slots.wake_all

        def readiness() -> Readiness:
            checks = {
                "clearml": "registered" if slots.are_served else "not registered",
                "log": "readable" if log_watch.is_readable else "not readable",
                "work": "draining" if shared.draining.is_set() else f"{slots.busy} of {len(names)} slots busy",
            }
            return Readiness(slots.are_served and log_watch.is_readable and not shared.draining.is_set(), checks)

        health = HealthServer(
            SERVICE, settings.http_host, settings.http_port, readiness=readiness, metrics=metrics.render
        )
        await health.start()
        stack.push_async_callback(health.stop)
        self.address = health.address
        self._log.info("started", action="start", address=health.address, worker=names[0], slots=len(names))
        work = asyncio.create_task(_work(all_attempts[0], slots), name="serve")
        ending = drain(slots, stop, shared.draining, shared.stopping, settings.drain_s)
        background = [
            asyncio.create_task(log_watch.watch(), name="watch-log"),
            asyncio.create_task(slots.report_for_ever(), name="report"),
            asyncio.create_task(news.listen(), name="news"),
            asyncio.create_task(_preload(shared.fork_servers, settings.preload), name="preload"),
        ]
        stopper = asyncio.create_task(ending, name="drain")
        try:
            await asyncio.wait([work, *background], return_when=asyncio.FIRST_COMPLETED)
            await _first_failure([work, *background])
            await work
        finally:
            for task in (work, stopper, *background):
                task.cancel()
            await asyncio.gather(work, stopper, *background, return_exceptions=True)
            await slots.unregister()


def build(
    settings: TrainerWorkerSettings,
    kafka: KafkaSettings,
    clearml: ClearMLSettings,
    data: DataSettings,
    folders: Folders,
) -> TrainerWorker:
    """The worker of these settings in folders that are its own (`own_folders`); no connection is made before `run`."""
    return TrainerWorker(settings, kafka, clearml, data, folders)


async def _work(first: Attempts, slots: Slots) -> None:
    try:
        await first.replay()
    except Ending:
        return
    await slots.serve()


async def _preload(fork_servers: ForkServers, trainers: Sequence[str]) -> None:
    """Never returns: it is one of the tasks whose end is the worker's."""
    await fork_servers.preload(trainers)
    await asyncio.Event().wait()


async def _first_failure(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and task.exception() is not None:
            await task
