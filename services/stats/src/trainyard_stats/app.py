"""The statistics service, put together: `build` makes it, `Stats.run` counts until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLSettings
from trainyard_runtime.health import HealthServer, Readiness
from trainyard_runtime.kafka.async_log import LogReader
from trainyard_runtime.kafka.records import OffsetGone
from trainyard_runtime.kafka.run_log import RunLog
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_runtime.projection import Projection, ProjectionUnavailable, held
from trainyard_runtime.settings import ConfigurationError, blamed_on
from trainyard_schemas.lifecycle import RunState
from trainyard_stats.confluent.groups import KafkaGroups
from trainyard_stats.metrics import StatsMetrics, Surroundings
from trainyard_stats.run_metrics import VERSION, Tally
from trainyard_stats.run_tally import RunTally
from trainyard_stats.serving.counting import Counting, instance_in
from trainyard_stats.serving.metric_rules import RulesError
from trainyard_stats.serving.rules_keeper import RulesKeeper
from trainyard_stats.settings import StatsSettings
from trainyard_stats.surroundings import Watch

SERVICE = "stats"
CLIENT_ID = "trainyard-stats"


class Stats:
    """One process. Ready means: Kafka answers, and everything that was in the log at the start is counted."""

    def __init__(self, settings: StatsSettings, kafka: KafkaSettings, clearml: ClearMLSettings) -> None:
        self._settings = settings
        self._kafka = kafka
        self._clearml_settings = clearml
        self._log = get_logger(component="app")
        self._tally: RunTally | None = None
        self._lifecycle: RunLog | None = None
        self._caught_up = False
        self._watch: Watch | None = None
        self._rules: dict[str, RulesKeeper] = {}
        self._counting: Counting | None = None
        self._metrics = StatsMetrics(
            lambda: self._tally.tally if self._tally is not None else Tally(),
            lambda: self._watch.found() if self._watch is not None else Surroundings(),
            lambda: self._counting.parts() if self._counting is not None else {},
            compatibility_names=settings.compatibility_names,
        )
        self._health = HealthServer(
            f"trainyard-{SERVICE}",
            settings.http_host,
            settings.http_port,
            readiness=self._readiness,
            metrics=lambda: self._metrics_of(openmetrics=False),
            openmetrics=lambda: self._metrics_of(openmetrics=True),
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
            working: set[asyncio.Task[None]] = {
                asyncio.create_task(self._count(stack, folder)),
                asyncio.create_task(self._count_serving(stack, folder)),
            }
            stopping = asyncio.create_task(stop.wait())
            ends: set[asyncio.Task[Any]] = {*working, stopping}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in working:
                    if task.done():
                        task.result()
            finally:
                for end in ends:
                    end.cancel()
                if self._counting is not None:
                    await self._counting.stop()
                await asyncio.gather(*ends, return_exceptions=True)

    def _own_folder(self, stack: AsyncExitStack) -> Path:
        folder = self._settings.state_dir
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-stats-")))
        with blamed_on("TRAINYARD_STATE_DIR", ProjectionUnavailable):
            return stack.enter_context(held(folder))

    async def _count(self, stack: AsyncExitStack, folder: Path) -> None:
        reader = LogReader(self._kafka, client_id=CLIENT_ID)
        stack.push_async_callback(reader.stop)
        lifecycle = self._lifecycle = RunLog(self._kafka, reader, self._settings.resync_s, CLIENT_ID)
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

    async def _count_serving(self, stack: AsyncExitStack, folder: Path) -> None:
        """Count clearml-serving's statistics, and look around beside it; for ever."""
        settings, clearml = self._settings, None
        if self._clearml_settings.access_key:
            clearml = await stack.enter_async_context(ClearMLClient(self._clearml_settings))
        files, tasks = settings.metric_logging_files(), settings.serving_tasks()
        if tasks and clearml is None:
            raise ConfigurationError("CLEARML_SERVING_TASK_ID needs CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY.")
        rules = self._rules = {
            name: RulesKeeper(name, files.get(name), tasks.get(name, ""), clearml, settings.config_poll_s)
            for name in (source.deployment for source in settings.sources())
        }
        await asyncio.gather(*(self._first_rules(keeper) for keeper in rules.values()))
        instance = instance_in(folder) if settings.state_dir is not None else ""
        counting = self._counting = Counting(settings, self._kafka, lambda name: rules[name].rules, instance)
        counting.start()
        watch = self._watch = Watch(
            clearml, KafkaGroups(self._kafka), self._open_runs, tasks, settings.fleet_poll_s, settings.fleet_seen_s
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(_failing(counting.failed))
            group.create_task(watch.keep())
            for keeper in rules.values():
                group.create_task(keeper.keep())

    async def _first_rules(self, rules: RulesKeeper) -> None:
        """Custom values are counted from the first message on, unless ClearML is away: that holds nothing up."""
        try:
            await rules.look()
        except ClearMLError as error:
            self._log.warning("counts without custom metrics until ClearML answers", action="start", error=str(error))
        except (RulesError, OSError) as error:
            if not rules.is_of_task:
                raise ConfigurationError(
                    f"TRAINYARD_STATS_METRIC_LOGGING_FILE cannot be used for {rules.deployment}: {error}."
                ) from error
            self._log.warning("counts without custom metrics", action="start", error=str(error))

    def _open_runs(self) -> Iterable[RunState]:
        return self._tally.open_runs() if self._tally is not None else ()

    async def _follow(self, lifecycle: RunLog, tally: RunTally) -> None:
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
            "serving": self._counting.why_not() if self._counting is not None else "not connected yet",
        }
        return Readiness(all(word == "ok" for word in checks.values()), checks)

    def _metrics_of(self, *, openmetrics: bool) -> bytes:
        metrics, lifecycle, tally = self._metrics, self._lifecycle, self._tally
        metrics.up.set(1 if lifecycle is not None and lifecycle.available else 0)
        if lifecycle is not None and tally is not None:
            metrics.lag.set(sum(max(0, end - tally.next_offsets[p]) for p, end in lifecycle.ends.items()))
        for replica in self._counting.replicas if self._counting is not None else ():
            metrics.serving_up.labels(replica.deployment).set(1 if replica.why_not == "ok" else 0)
            metrics.serving_lag.labels(replica.deployment).set(sum(replica.lag().values()))
        for deployment, rules in self._rules.items():
            metrics.rules_ok.labels(deployment).set(0 if rules.problem else 1)
            metrics.switched_off.labels(deployment).set(1 if rules.is_switched_off else 0)
        return metrics.render_openmetrics() if openmetrics else metrics.render()


async def _failing(failed: asyncio.Future[None]) -> None:
    """Raise what the counting could not go on for."""
    await failed


def build(settings: StatsSettings, kafka: KafkaSettings, clearml: ClearMLSettings) -> Stats:
    """The service of these settings; nothing is connected before `run`."""
    return Stats(settings, kafka, clearml)
