"""A member of a group that reads in batches and commits what is done with: what intake and copier share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable
from trainyard_simulation.effects import IDLE_S, Call, Signal, Sleep
from trainyard_simulation.groups import Group, StaleGeneration
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

MAX_BATCH = 4
RETRY_S = 0.5
T = TypeVar("T")
_UNKNOWN_GENERATION = -2


class Consumer(Generic[T]):
    """One incarnation in one group, on one topic. Like Kafka's: what was read and not committed is read again."""

    def __init__(
        self, kernel: Kernel, group: Group, logs: Mapping[int, list[T]], process: Process, wake: Signal
    ) -> None:
        self._kernel = kernel
        self._group = group
        self._logs = logs
        self._process = process
        self._wake = wake
        self._member = group.join(process, wake)
        self._positions: dict[int, int] = {}
        self._generation = -1

    async def next(self) -> dict[int, list[T]]:
        """The next records by partition, at least one; waits until there are some."""
        while True:
            try:
                if self._generation != self._member.generation:
                    await self._take_partitions()
                batch = await self._fetch()
            except LogUnavailable:
                await Sleep(RETRY_S)
                continue
            if batch:
                return batch
            await self._wake.wait(IDLE_S)

    async def commit(self, batch: Mapping[int, list[T]], note: Callable[[int, int], None] | None = None) -> None:
        """Commit {partition: offset + 1}. Where the group has moved on, what comes next is what the group says.

        `note` is told (partition, next offset) when the commit takes effect.
        """
        offsets = {p: self._positions[p] + len(records) for p, records in batch.items()}
        self._positions.update(offsets)
        group, process, generation = self._group, self._process, self._generation

        def apply() -> None:
            group.commit(process, generation, offsets)
            if note is not None:
                for partition, end in offsets.items():
                    note(partition, end)

        try:
            await Call(
                "commit",
                apply,
                unknown=lambda: AppendUnknown("commit"),
                unavailable=lambda: LogUnavailable("commit"),
                refusals=(StaleGeneration,),
            )
        except StaleGeneration:
            self._kernel.coverage["commit of an older generation refused"] += 1
            self._generation = _UNKNOWN_GENERATION
        except LogUnavailable:
            self._generation = _UNKNOWN_GENERATION

    async def _take_partitions(self) -> None:
        generation, partitions = self._member.generation, self._member.partitions
        committed = self._group.committed
        self._positions = await _read("read committed offsets", lambda: {p: committed.get(p, 0) for p in partitions})
        self._generation = generation

    async def _fetch(self) -> dict[int, list[T]]:
        """Some records of the partitions that this process believes to own: a prefix of what is there."""
        rng = self._kernel.rng

        def apply() -> dict[int, list[T]]:
            found: dict[int, list[T]] = {}
            for partition, position in self._positions.items():
                log = self._logs.get(partition)
                if log is not None and len(log) > position:
                    found[partition] = log[position : position + 1 + int(rng.random() * MAX_BATCH)]
            return found

        if not self._positions:
            return {}
        batch: dict[int, list[T]] = await _read("fetch", apply)
        return batch


def _read(label: str, what: Callable[[], object]) -> Call:
    return Call(label, what, unavailable=lambda: LogUnavailable(label))
