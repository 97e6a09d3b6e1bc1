"""The dispatcher's composition root: intake, fold, election, planner and copier in one process."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from trainyard_dispatcher.clearml_tasks import ClearMLTasks
from trainyard_dispatcher.command_loop import Commands
from trainyard_dispatcher.completed_copier import CompletedCopier
from trainyard_dispatcher.executor import Executor
from trainyard_dispatcher.heartbeat_watch import HeartbeatWatch
from trainyard_dispatcher.intake_loop import Intake
from trainyard_dispatcher.lead import Lead
from trainyard_dispatcher.log_ports import KafkaDeadLetters, KafkaLedger, LifecycleLog
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_dispatcher.planner_loop import PlannerLoop
from trainyard_dispatcher.ports import NotDone, OutcomeUnknown, Refused
from trainyard_dispatcher.run_index import RunIndex
from trainyard_dispatcher.settings import DispatcherSettings
from trainyard_dispatcher.standstill import Positions, StandstillWatch
from trainyard_dispatcher.state_codec import FOLD_VERSION
from trainyard_dispatcher.vigil import Vigil
from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLSettings
from trainyard_runtime.clock import steady
from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.health import HealthServer, Readiness
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.faststream_broker import Subscription
from trainyard_runtime.kafka.records import LogUnavailable, Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_runtime.projection import Projection, ProjectionUnavailable, held
from trainyard_runtime.settings import blamed_on
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName

INTAKE_GROUP, COMMANDS_GROUP, PLANNER_GROUP, COPIER_GROUP = "intake", "commands", "planner", "completed-copier"
RUN_TOPICS = (
    TopicName.RUNS_REQUESTED,
    TopicName.RUNS_COMMANDS,
    TopicName.RUNS_LIFECYCLE,
    TopicName.RUNS_HEARTBEATS,
    TopicName.RUNS_COMPLETED,
)
PROBE_EVERY_S = 10.0
_RETRY_S = 1.0


class TopicsUnfitError(RuntimeError):
    """The topics are not as this process needs them: starting would lose or misplace records."""


class Dispatcher:
    """All parts of one dispatcher process, wired; `run` works until told to stop.

    Ready means: every subscription has joined, the fold has reached the log's end, and ClearML answered the last probe.
    While ClearML is away intake goes on; only readiness and dispatch wait.
    """

    def __init__(self, settings: DispatcherSettings, kafka: KafkaSettings, clearml: ClearMLSettings) -> None:
        self._settings = settings
        self._kafka = kafka
        self._clearml_settings = clearml
        self._writer_id = uuid.uuid4().hex
        self.metrics = DispatcherMetrics()
        self._log = get_logger(component="app", writer=self._writer_id)
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._checks: dict[str, str] = {
            "intake": "not subscribed yet",
            "commands": "not subscribed yet",
            "planner": "not subscribed yet",
            "completed_copier": "not subscribed yet",
            "fold": "has not reached the log's end yet",
            "clearml": "not asked yet",
        }
        self._health = HealthServer(
            "trainyard-dispatcher",
            settings.http_host,
            settings.http_port,
            readiness=self._readiness,
            metrics=self._metrics_text,
        )
        self._index: RunIndex | None = None

    @property
    def address(self) -> str:
        """Where the health and metrics pages are, once `run` has begun."""
        return self._health.address

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises what made it impossible to go on; a supervisor starts it again."""
        async with AsyncExitStack() as stack:
            folder = self._own_folder(stack)
            await self._health.start()
            stack.push_async_callback(self._health.stop)
            self._log.info("started", action="start", address=self.address)
            working = asyncio.create_task(self._work(stack, folder))
            stopping = asyncio.create_task(stop.wait())
            ends: set[asyncio.Future[Any]] = {working, stopping, self._failure}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in (self._failure, working):
                    if end.done():
                        end.result()
            finally:
                working.cancel()
                stopping.cancel()
                await asyncio.gather(working, stopping, return_exceptions=True)

    async def _work(self, stack: AsyncExitStack, folder: Path) -> None:
        kafka, settings = self._kafka, self._settings
        writer = LogWriter(kafka, client_id="trainyard-dispatcher")
        stack.push_async_callback(writer.stop)
        reader = LogReader(kafka, client_id="trainyard-dispatcher")
        stack.push_async_callback(reader.stop)
        clearml = await stack.enter_async_context(ClearMLClient(self._clearml_settings))
        lifecycle = kafka.topic(TopicName.RUNS_LIFECYCLE)
        first, ends = await self._topics_as_declared(reader)
        index = self._open_index(stack, folder, lifecycle, await reader.cluster_id())
        start_at = index.load(first, ends)
        self._index = index

        log = LifecycleLog(writer, kafka, self._writer_id, time.time)
        tasks = ClearMLTasks(
            clearml,
            kafka.topic_prefix,
            settings.tenant,
            create_unknown_queues=settings.unknown_queue == "create",
        )
        routing = settings.routing()
        executor = Executor(
            tasks, KafkaLedger(log), KafkaDeadLetters(log, reader), routing, kafka.topic_prefix, failpoint
        )
        limits = settings.limits()
        vigil = Vigil(limits.silence_s / 3)

        def ends_now() -> Awaitable[dict[int, int]]:
            return reader.record_ends(lifecycle)

        planner = PlannerLoop(
            index,
            executor,
            lambda taken_over_at: Lead(taken_over_at, routing, limits, vigil),
            self.metrics,
            ends=ends_now,
            survey=tasks.survey,
            survey_every_s=settings.survey_every_s,
            concurrency=settings.action_concurrency,
        )
        commands = Commands(index, log, self.metrics, ends=ends_now, now=time.time)
        intake = Intake(log, settings.tenant, self.metrics)
        copier = CompletedCopier(index, writer, kafka.topic(TopicName.RUNS_COMPLETED), self.metrics)

        async def fold(records: Sequence[Record]) -> None:
            index.fold(records)
            planner.wake()

        async def lead_is_never_written_to(records: Sequence[Record]) -> None:
            self._log.warning("records on the election's topic are not read", action="ignore", count=len(records))

        folding = Subscription(
            kafka, lifecycle, fold, start_at={(lifecycle, p): at for p, at in start_at.items()}, on_failure=self._fail
        )
        taking = self._grouped(TopicName.RUNS_REQUESTED, INTAKE_GROUP, "intake", intake.handle)
        obeying = self._grouped(TopicName.RUNS_COMMANDS, COMMANDS_GROUP, "commands", commands.handle)
        copying = self._grouped(TopicName.RUNS_LIFECYCLE, COPIER_GROUP, "completed_copier", copier.handle)
        electing = Subscription(
            kafka,
            kafka.topic(TopicName.PLANNER_LEAD),
            lead_is_never_written_to,
            group=kafka.group(PLANNER_GROUP),
            on_failure=self._fail,
            on_assignment=lambda assigned: self._elected(planner, bool(assigned)),
        )
        for subscription in (folding, taking, obeying, copying, electing):
            stack.push_async_callback(subscription.stop)
            await subscription.start()
        consumers: dict[str, tuple[str, Positions]] = {
            "fold": (lifecycle, folding.positions),
            "intake": (kafka.topic(TopicName.RUNS_REQUESTED), taking.positions),
            "commands": (kafka.topic(TopicName.RUNS_COMMANDS), obeying.positions),
            "completed_copier": (lifecycle, copying.positions),
        }
        async with asyncio.TaskGroup() as group:
            group.create_task(self._plan(planner, tasks, routing.queues))
            group.create_task(index.keep_flushing())
            group.create_task(self._probe(clearml))
            group.create_task(HeartbeatWatch(kafka, reader, vigil, steady).run())
            group.create_task(StandstillWatch(consumers, reader, self.metrics).run())
            await index.reached(ends)
            self._checks["fold"] = "ok"

    def _own_folder(self, stack: AsyncExitStack) -> Path:
        folder = self._settings.state_dir
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-dispatcher-")))
        with blamed_on("TRAINYARD_STATE_DIR", ProjectionUnavailable):
            return stack.enter_context(held(folder))

    def _open_index(self, stack: AsyncExitStack, folder: Path, lifecycle: str, cluster_id: str) -> RunIndex:
        identity = f"{cluster_id} {lifecycle} fold {FOLD_VERSION}"
        with blamed_on("TRAINYARD_STATE_DIR", ProjectionUnavailable):
            projection = Projection(folder / "dispatcher.sqlite", identity=identity)
        stack.callback(projection.close)
        index = RunIndex(projection, lifecycle, requests=self._kafka.topic(TopicName.RUNS_REQUESTED))
        stack.push_async_callback(index.flush)
        return index

    async def _topics_as_declared(self, reader: LogReader) -> tuple[dict[int, int], dict[int, int]]:
        """The first and the end offsets of the lifecycle topic. Waits for Kafka; refuses another partition count."""
        while True:
            try:
                for name in RUN_TOPICS:
                    topic = self._kafka.topic(name)
                    found = await reader.partitions(topic)
                    if found != RUN_PARTITIONS:
                        raise TopicsUnfitError(
                            f"topic {topic} has {found} partitions, not {RUN_PARTITIONS}: a run's records would go to"
                            " another partition than before; use a new TRAINYARD_TOPIC_PREFIX"
                        )
                lifecycle = self._kafka.topic(TopicName.RUNS_LIFECYCLE)
                return await reader.first_offsets(lifecycle), await reader.record_ends(lifecycle)
            except LogUnavailable as error:
                self._checks["fold"] = f"Kafka does not answer, or topics are missing: {error}"
                self._log.warning("waiting for Kafka and its topics", action="wait", error=str(error))
                await asyncio.sleep(_RETRY_S)

    def _grouped(self, name: TopicName, group: str, check: str, handle: Callable[..., Awaitable[None]]) -> Subscription:
        """A subscription in a group, whose handler commits."""
        made: list[Subscription] = []

        async def handler(records: Sequence[Record]) -> None:
            await handle(records, made[0].commit)

        def assigned(_: frozenset[tuple[str, int]]) -> None:
            self._checks[check] = "ok"

        made.append(
            Subscription(
                self._kafka,
                self._kafka.topic(name),
                handler,
                group=self._kafka.group(group),
                on_failure=self._fail,
                on_assignment=assigned,
            )
        )
        return made[0]

    def _elected(self, planner: PlannerLoop, elected: bool) -> None:
        self._checks["planner"] = "ok"
        planner.lead(elected)

    async def _plan(self, planner: PlannerLoop, tasks: ClearMLTasks, queues: frozenset[str]) -> None:
        """Plan, once the queues that this process routes to exist: before that, a run would be told there is none."""
        while True:
            try:
                await tasks.ensure_queues(queues)
                break
            except (NotDone, OutcomeUnknown, Refused) as error:
                self._log.warning("the routed queues are not there yet", action="ensure_queues", error=str(error))
                await asyncio.sleep(_RETRY_S)
        await planner.run()

    async def _probe(self, clearml: ClearMLClient) -> None:
        while True:
            try:
                await clearml.ping()
            except ClearMLError as error:
                self._checks["clearml"] = str(error)
                self.metrics.clearml_up.set(0)
                await asyncio.sleep(_RETRY_S)
            else:
                self._checks["clearml"] = "ok"
                self.metrics.clearml_up.set(1)
                await asyncio.sleep(PROBE_EVERY_S)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _readiness(self) -> Readiness:
        return Readiness(all(word == "ok" for word in self._checks.values()), dict(self._checks))

    def _metrics_text(self) -> bytes:
        index = self._index
        if index is not None:
            self.metrics.show_index(index)
        return self.metrics.text()


def build(settings: DispatcherSettings, kafka: KafkaSettings, clearml: ClearMLSettings) -> Dispatcher:
    """The dispatcher of these settings; nothing is connected before `run`. Call it inside an event loop."""
    return Dispatcher(settings, kafka, clearml)
