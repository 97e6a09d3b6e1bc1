"""The gateway's composition root: the fold of the log, ClearML beside it, and the pages, in one process."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Any, Final

from trainyard_runtime.clearml import ClearMLClient, ClearMLSettings
from trainyard_runtime.health import Readiness, listen
from trainyard_runtime.kafka.async_log import LogReader, tail
from trainyard_runtime.kafka.records import LogUnavailable, OffsetGone, Record
from trainyard_runtime.kafka.run_log import RunLog
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger
from trainyard_schemas.topics import TopicName
from trainyard_submitter.gateway.clearml_fleet import ClearMLFleet
from trainyard_submitter.gateway.news import News
from trainyard_submitter.gateway.run_table import RunTable
from trainyard_submitter.gateway.settings import GatewaySettings
from trainyard_submitter.gateway.starlette_pages import Pages
from trainyard_submitter.gateway.uvicorn_server import HttpServer
from trainyard_submitter.metrics import GatewayMetrics

SERVICE: Final = "submitter"
CLIENT_ID: Final = "trainyard-gateway"
_RETRY_S: Final = 1.0


class Gateway:
    """One process. Ready means: Kafka answers, and everything that was in the log at the start is folded.

    Nothing is stored: a start folds the log from its beginning, and the table is the same.
    """

    def __init__(self, settings: GatewaySettings, kafka: KafkaSettings, clearml: ClearMLSettings) -> None:
        self._settings = settings
        self._kafka = kafka
        self._clearml_settings = clearml
        self._log = get_logger(component="app")
        self._table = RunTable(settings.max_runs)
        self._run_log: RunLog | None = None
        self._caught_up = False
        self._news = News(settings.max_streams)
        self._metrics = GatewayMetrics()
        self._next_offsets: dict[int, int] = {}
        self.address = ""

    @property
    def secrets(self) -> list[str]:
        """What must stand in no log and on no page."""
        clearml = self._clearml_settings
        return [
            clearml.secret_key.get_secret_value(),
            clearml.access_key,
            self._kafka.password.get_secret_value(),
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. Raises what made it impossible to go on; a supervisor starts it again."""
        async with AsyncExitStack() as stack:
            settings = self._settings
            listener = listen(settings.http_host, settings.http_port)
            stack.callback(listener.close)
            host, port = listener.getsockname()[:2]
            self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            clearml = None
            if self._clearml_settings.access_key:
                clearml = await stack.enter_async_context(ClearMLClient(self._clearml_settings))
            fleet = ClearMLFleet(clearml)
            pages = Pages(self._table, fleet, self._news, self._readiness, self._metrics_text, self.secrets)
            server = HttpServer(pages.application(), listener)
            await server.start()
            stack.push_async_callback(server.stop)
            stack.callback(self._news.close)
            self._log.info("started", action="start", address=self.address)
            working = {
                asyncio.create_task(self._fold(stack, pages)),
                asyncio.create_task(self._hear(pages)),
                asyncio.create_task(self._look_around(fleet)),
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
                await asyncio.gather(*ends, return_exceptions=True)

    async def _fold(self, stack: AsyncExitStack, pages: Pages) -> None:
        reader = LogReader(self._kafka, client_id=CLIENT_ID)
        stack.push_async_callback(reader.stop)
        run_log = self._run_log = RunLog(self._kafka, reader, self._settings.resync_s, CLIENT_ID)
        while True:
            first, _ = await run_log.bounds()
            self._next_offsets = dict(first)
            try:
                async with contextlib.aclosing(run_log.news(lambda: self._next_offsets)) as news:
                    async for found in news:
                        if found is None:
                            self._caught_up = True
                            continue
                        partition, records = found
                        for run_id in self._changed(records):
                            self._tell(pages, run_id)
                        self._next_offsets[partition] = records[-1].offset + 1
            except OffsetGone as error:
                self._log.warning("the log is not what was folded", action="start_over", error=str(error))
                self._caught_up = False
                self._table.clear()
                self._news.tell("again", "{}")

    def _changed(self, records: list[Record]) -> list[str]:
        """The runs that records of the lifecycle changed, each once."""
        return list(dict.fromkeys(run_id for record in records if (run_id := self._table.feed(record)) is not None))

    async def _hear(self, pages: Pages) -> None:
        """Progress, as workers tell it; a live view: what is missed while Kafka is away is not missed by anybody."""
        topic = self._kafka.topic(TopicName.RUNS_HEARTBEATS)
        while True:
            try:
                async for records in tail(self._kafka, [topic], client_id=f"{CLIENT_ID}-heartbeats"):
                    heard = [run_id for record in records if (run_id := self._table.hear(record)) is not None]
                    for run_id in dict.fromkeys(heard):
                        self._tell(pages, run_id)
            except LogUnavailable as error:
                self._log.warning("heartbeats cannot be heard", action="listen", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _look_around(self, fleet: ClearMLFleet) -> None:
        """While somebody follows, tell when ClearML's queues or workers are others than before, or the log is lost."""
        before: object = None
        log = ""
        while True:
            await self._news.somebody()
            if (word := self._readiness().checks["log"]) != log:
                log = word
                self._news.tell("again", "{}")
            found = await fleet.look(), fleet.trouble
            if found != before:
                before = found
                self._news.tell("fleet", "{}")
            await asyncio.sleep(self._settings.fleet_poll_s)

    def _tell(self, pages: Pages, run_id: str) -> None:
        row = self._table.row(run_id)
        if row is not None and self._news.followers:
            self._news.tell("run", pages.line(row))

    def _readiness(self) -> Readiness:
        run_log = self._run_log
        checks = {
            "log": run_log.why_not if run_log is not None else "not connected yet",
            "fold": "ok" if self._caught_up else "has not reached the log's end yet",
        }
        return Readiness(all(word == "ok" for word in checks.values()), checks)

    def _metrics_text(self) -> bytes:
        metrics, run_log, at = self._metrics, self._run_log, self._next_offsets
        metrics.up.set(1 if run_log is not None and run_log.available else 0)
        if run_log is not None:
            metrics.lag.set(sum(max(0, end - at.get(partition, 0)) for partition, end in run_log.ends.items()))
        metrics.runs.set(len(self._table))
        metrics.unreadable.set(self._table.unreadable)
        metrics.followers.set(self._news.followers)
        return metrics.text()


def build(settings: GatewaySettings, kafka: KafkaSettings, clearml: ClearMLSettings) -> Gateway:
    """The gateway of these settings; nothing is connected before `run`."""
    return Gateway(settings, kafka, clearml)
