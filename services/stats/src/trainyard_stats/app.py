"""The statistics service, put together: `build` makes it, `Stats.run` counts until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from trainyard_runtime.health import HealthServer, Readiness
from trainyard_runtime.kafka.async_log import LogReader
from trainyard_runtime.kafka.records import OffsetGone
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_runtime.projection import Projection, ProjectionUnavailable, held
from trainyard_runtime.settings import blamed_on
from trainyard_stats.kafka_lifecycle import CLIENT_ID, Lifecycle
from trainyard_stats.metrics import StatsMetrics
from trainyard_stats.run_metrics import VERSION, Tally
from trainyard_stats.run_tally import RunTally
from trainyard_stats.settings import StatsSettings

SERVICE = "stats"


class Stats:
    """One process. Ready means: Kafka answers, and everything that was in the log at the start is counted."""

    def __init__(self, settings: StatsSettings, kafka: KafkaSettings) -> None:
        self._settings = settings
        self._kafka = kafka
        self._log = get_logger(component="app")
        self._tally: RunTally | None = None
        self._lifecycle: Lifecycle | None = None
        self._caught_up = False
        self._metrics = StatsMetrics(lambda: self._tally.tally if self._tally is not None else Tally())
        self._health = HealthServer(
            f"trainyard-{SERVICE}",
            settings.http_host,
            settings.http_port,
            readiness=self._readiness,
            metrics=self._metrics_text,
        )

    @property
    def address(self) -> str:
        """Where the pages are, once `run` has begun."""
        return self._health.address

    async def run(self, stop: asyncio.Event) -> None:
        """Count until `stop` is set. Raises what made it impossible to go on; a supervisor starts it again."""
        async with AsyncExitStack() as stack:
            folder = self._own_folder(stack)
            await self._health.start()
            stack.push_async_callback(self._health.stop)
            self._log.info("started", action="start", address=self.address)
            counting = asyncio.create_task(self._count(stack, folder))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({counting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if counting.done():
                    counting.result()
            finally:
                counting.cancel()
                stopping.cancel()
                await asyncio.gather(counting, stopping, return_exceptions=True)

    def _own_folder(self, stack: AsyncExitStack) -> Path:
        folder = self._settings.state_dir
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-stats-")))
        with blamed_on("TRAINYARD_STATE_DIR", ProjectionUnavailable):
            return stack.enter_context(held(folder))

    async def _count(self, stack: AsyncExitStack, folder: Path) -> None:
        reader = LogReader(self._kafka, client_id=CLIENT_ID)
        stack.push_async_callback(reader.stop)
        lifecycle = self._lifecycle = Lifecycle(self._kafka, reader, self._settings.resync_s)
        first, ends = await lifecycle.bounds()
        identity = f"{await lifecycle.cluster_id()} {lifecycle.topic} runs {VERSION}"
        with blamed_on("TRAINYARD_STATE_DIR", ProjectionUnavailable):
            projection = Projection(folder / "stats.sqlite", identity=identity)
        stack.callback(projection.close)
        while True:
            tally = self._tally = RunTally(projection, lifecycle.topic)
            self._metrics.skipped.set(tally.load(first, ends))
            try:
                await self._follow(lifecycle, tally)
            except OffsetGone as error:
                self._log.warning("the log is not what was counted", action="start_over", error=str(error))
            first, ends = await lifecycle.bounds()

    async def _follow(self, lifecycle: Lifecycle, tally: RunTally) -> None:
        async with contextlib.aclosing(lifecycle.news(lambda: tally.next_offsets)) as news:
            async for found in news:
                if found is None:
                    self._caught_up = True
                else:
                    tally.fold(*found)
                    await tally.flush()

    def _readiness(self) -> Readiness:
        lifecycle = self._lifecycle
        checks = {
            "log": lifecycle.why_not if lifecycle is not None else "not connected yet",
            "count": "ok" if self._caught_up else "has not reached the log's end yet",
        }
        return Readiness(all(word == "ok" for word in checks.values()), checks)

    def _metrics_text(self) -> bytes:
        lifecycle, tally = self._lifecycle, self._tally
        self._metrics.up.set(1 if lifecycle is not None and lifecycle.available else 0)
        if lifecycle is not None and tally is not None:
            self._metrics.lag.set(sum(max(0, end - tally.next_offsets[p]) for p, end in lifecycle.ends.items()))
        return self._metrics.render()


def build(settings: StatsSettings, kafka: KafkaSettings) -> Stats:
    """The service of these settings; nothing is connected before `run`."""
    return Stats(settings, kafka)
