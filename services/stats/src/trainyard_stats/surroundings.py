"""Looks around every few seconds: ClearML's queues and workers, consumer lags, dead letters, and what waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from trainyard_runtime.clearml import ClearMLClient, ClearMLError
from trainyard_runtime.logs import get_logger
from trainyard_schemas.lifecycle import RunState
from trainyard_stats.confluent.groups import KafkaGroups
from trainyard_stats.fleet import Fleet, fleet_of, queue_look, waiting
from trainyard_stats.metrics import Surroundings
from trainyard_stats.serving.instances import CONTROL_FIELDS, INSTANCE_FIELDS, instance_filters, instances_of
from trainyard_stats.serving.ports import SourceUnavailable

T = TypeVar("T")


class Watch:
    """Holds `found`. What does not answer is left out of it until it answers again."""

    def __init__(
        self,
        clearml: ClearMLClient | None,
        groups: KafkaGroups,
        open_runs: Callable[[], Iterable[RunState]],
        serving_tasks: Mapping[str, str],
        every_s: float,
        seen_s: int,
    ) -> None:
        """`serving_tasks`: control-plane tasks by deployment; `seen_s`: who is silent for longer is gone."""
        self._clearml = clearml
        self._groups = groups
        self._open_runs = open_runs
        self._serving_tasks = serving_tasks
        self._every_s = every_s
        self._seen_s = seen_s
        self._fleet: Fleet | None = None
        self._instances: dict[str, int] = {}
        self._lags: dict[tuple[str, str], int] = {}
        self._dead_letters: dict[str, int] = {}
        self._troubles: dict[str, str] = {}
        self._log = get_logger(component="watch")

    def found(self) -> Surroundings:
        """The last look, and what waits by the log as it is folded now."""
        waits = waiting(self._open_runs(), self._fleet)
        return Surroundings(time.time(), self._fleet, waits, self._lags, self._dead_letters, self._instances)

    async def keep(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Look once."""
        try:
            if self._clearml is not None:
                self._fleet = await self._ask_for_fleet(self._clearml)
                self._instances = await self._ask_for_instances(self._clearml)
            self._troubles.pop("clearml", None)
        except ClearMLError as error:
            self._fleet, self._instances = None, {}
            self._complain("clearml", error)
        try:
            self._lags = await _in_a_thread(self._groups.lags)
            self._dead_letters = await _in_a_thread(self._groups.dead_letters)
            self._troubles.pop("kafka", None)
        except SourceUnavailable as error:
            self._lags = {}
            self._complain("kafka", error)

    async def _ask_for_fleet(self, clearml: ClearMLClient) -> Fleet:
        queues = await clearml.queues()
        looks = {queue.name: queue_look(entry.added for entry in queue.entries) for queue in queues}
        return fleet_of(looks, await clearml.workers(last_seen_s=self._seen_s))

    async def _ask_for_instances(self, clearml: ClearMLClient) -> dict[str, int]:
        """Instances of clearml-serving by deployment; a deployment whose task is gone is left out."""
        found: dict[str, int] = {}
        for deployment, task_id in self._serving_tasks.items():
            control = await clearml.get_task(task_id, CONTROL_FIELDS)
            if control is not None:
                tasks = await clearml.find_tasks(instance_filters(control), INSTANCE_FIELDS)
                found[deployment] = instances_of(control, tasks, time.time() - self._seen_s)
        return found

    def _complain(self, about: str, error: Exception) -> None:
        if self._troubles.get(about) != str(error):
            self._log.warning("cannot be asked", action="look", about=about, error=str(error))
        self._troubles[about] = str(error)


async def _in_a_thread(ask: Callable[[], T]) -> T:
    """The answer to a question that blocks. In a daemon thread: a broker that is away does not hold up the end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(found: T | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)  # type: ignore[arg-type]

    def work() -> None:
        found, problem = None, None
        try:
            found = ask()
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            problem = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, found, problem)

    threading.Thread(target=work, name="watch", daemon=True).start()
    return await answer
