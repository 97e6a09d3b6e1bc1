"""All deployments that this process counts: one replica and one thread for each."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.topics import TopicName, topic
from trainyard_stats.confluent.checkpoints import KafkaCheckpoints
from trainyard_stats.confluent.client import client_options
from trainyard_stats.confluent.source import SURELY_HELD_S, KafkaSource
from trainyard_stats.serving.counters import Counters
from trainyard_stats.serving.metric_rules import Rules
from trainyard_stats.serving.replica import Replica
from trainyard_stats.settings import StatsSettings

_STOP_S: Final = 1.4


class Counting:
    """Counts from `start` to `stop`. `failed` is done with the error of a thread that could not go on."""

    def __init__(
        self, settings: StatsSettings, kafka: KafkaSettings, rules: Callable[[str], Rules], instance: str = ""
    ) -> None:
        """`rules` gives a deployment's rules as they are now; `instance` is this replica's lasting name."""
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        declared = topic(TopicName.STATS_CHECKPOINTS)
        self.replicas = [
            Replica(
                source.deployment,
                source.topic,
                KafkaSource(
                    client_options(kafka, source.bootstrap or settings.serving_bootstrap),
                    source.topic,
                    kafka.group(f"stats-{source.deployment}"),
                    instance,
                ),
                KafkaCheckpoints(client_options(kafka), kafka.topic(TopicName.STATS_CHECKPOINTS), declared.partitions),
                rules=partial(rules, source.deployment),
                max_endpoints=settings.max_endpoints,
                checkpoint_s=settings.checkpoint_s,
                surely_held_s=SURELY_HELD_S,
            )
            for source in settings.sources()
        ]
        self._threads: list[threading.Thread] = []
        self._ended: list[asyncio.Future[None]] = []

    def start(self) -> None:
        """Begin."""
        for replica in self.replicas:
            ended: asyncio.Future[None] = self._loop.create_future()
            self._ended.append(ended)
            name = f"serving-{replica.deployment}"
            # A daemon: a broker that is away must not hold up the end of the process.
            thread = threading.Thread(target=self._work, args=(replica, ended), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    async def stop(self) -> None:
        """Store and leave, for as long as a service may take to end."""
        for replica in self.replicas:
            replica.stop()
        if self._ended:
            await asyncio.wait(self._ended, timeout=_STOP_S)

    def parts(self) -> dict[tuple[str, int], Counters]:
        """The counters to show of all deployments."""
        return {place: counters for replica in self.replicas for place, counters in replica.parts().items()}

    def why_not(self) -> str:
        """`ok`, or why something is not counted. A topic that nobody has published to yet is no fault."""
        troubles = [f"{r.deployment}: {r.why_not}" for r in self.replicas if r.why_not != "ok" and not r.is_missing]
        return "; ".join(troubles) or "ok"

    def _work(self, replica: Replica, ended: asyncio.Future[None]) -> None:
        error: Exception | None = None
        try:
            replica.run()
        except Exception as problem:  # noqa: BLE001 - the service ends with it, loudly
            error = problem
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._note_end, ended, error)

    def _note_end(self, ended: asyncio.Future[None], error: Exception | None) -> None:
        if not ended.done():
            ended.set_result(None)
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)


def instance_in(folder: Path) -> str:
    """The name that this replica keeps in its own folder over restarts."""
    place = folder / "serving-instance"
    if not place.is_file():
        place.write_text(uuid.uuid4().hex, encoding="ascii")
    return place.read_text(encoding="ascii").strip()
