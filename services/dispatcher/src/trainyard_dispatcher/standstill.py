"""Ends a dispatcher whose consumer stands still behind the log's end: a new process gets on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_runtime.clock import steady
from trainyard_runtime.kafka.progress import Place, ProgressWatch, lag
from trainyard_runtime.kafka.records import LogError

WATCH_EVERY_S: Final = 15.0
STANDSTILL_S: Final = 90.0

Positions = Callable[[], Awaitable[Mapping[Place, int]]]
"""Per partition the next offset that a consumer will handle."""


class StableLog(Protocol):
    """A log that says how far its consumers can come; its end may lie behind a transaction that is still open."""

    async def stable_offsets(self, topic: str) -> Mapping[int, int]:
        """Per partition the offset after the last record that a consumer can get by now. Raises LogError."""
        ...


class StandstillError(RuntimeError):
    """A consumer got nothing for too long although there is more."""


class StandstillWatch:
    """Looks at every consumer now and then, and shows how far it is behind."""

    def __init__(
        self,
        consumers: Mapping[str, tuple[str, Positions]],
        log: StableLog,
        metrics: DispatcherMetrics,
        *,
        every_s: float = WATCH_EVERY_S,
        standstill_s: float = STANDSTILL_S,
    ) -> None:
        """`consumers`: by name the topic that it reads, and its positions."""
        self._consumers = consumers
        self._log = log
        self._metrics = metrics
        self._every_s = every_s
        self._standstill_s = standstill_s
        self._watches = {name: ProgressWatch(standstill_s) for name in consumers}

    async def run(self) -> None:
        """For ever. Raises StandstillError."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                ends = {
                    (topic, partition): offset
                    for topic in {topic for topic, _ in self._consumers.values()}
                    for partition, offset in (await self._log.stable_offsets(topic)).items()
                }
            except LogError:
                continue  # while the log is away nobody stands still
            for name, (_, positions) in self._consumers.items():
                places = await positions()
                self._metrics.lag.labels(name).set(lag(places, ends))
                if still := self._watches[name].stuck(places, ends, steady()):
                    raise StandstillError(f"{name} has stood still for {self._standstill_s:g} s, behind in {still[:3]}")
