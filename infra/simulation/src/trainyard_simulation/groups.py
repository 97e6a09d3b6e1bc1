"""Consumer groups: who owns which partition, as the coordinator has it and as each member believes it.

A member learns of a rebalance after a while, and a paused one when it wakes, so two members may act for one partition
for some time. Commits are fenced as Kafka does it: one of an older generation, or by somebody else, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainyard_simulation.effects import Signal
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

SESSION_TIMEOUT_S = 10.0
LATE_NEWS_S = 20.0
"""How long a member may go on as before after a rebalance: two then act for one partition."""


class StaleGeneration(Exception):
    """A commit by a member that does not own the partition any more."""


class Member:
    """One process in one group. `partitions` and `generation` are what it was last told; `changed` says when."""

    __slots__ = ("changed", "generation", "partitions", "process")

    def __init__(self, process: Process, changed: Signal) -> None:
        self.process = process
        self.partitions: tuple[int, ...] = ()
        self.generation = -1
        self.changed = changed


class Group:
    """One group on one topic of `count` partitions, with its committed offsets (the next to read)."""

    def __init__(self, kernel: Kernel, name: str, count: int) -> None:
        self._kernel = kernel
        self._name = name
        self._count = count
        self._members: dict[str, Member] = {}
        self._owners: dict[int, str] = {}
        self.generation = 0
        self.committed: dict[int, int] = {}

    def join(self, process: Process, changed: Signal) -> Member:
        """A new member; it is told its partitions after a while."""
        member = Member(process, changed)
        self._members[process.writer] = member
        self.rebalance()
        return member

    def leave_after_timeout(self, process: Process) -> None:
        """A member died or was paused: the coordinator notices after the session timeout."""
        if process.writer in self._members:
            self._kernel.after(SESSION_TIMEOUT_S, self._expire, process)

    def rebalance(self) -> None:
        """Deal the partitions anew among the members; each learns of it at a time of its own."""
        kernel = self._kernel
        self.generation += 1
        names = list(self._members)
        kernel.rng.shuffle(names)
        self._owners = {p: names[p % len(names)] for p in range(self._count)} if names else {}
        for name in names:
            self._tell_later(self._members[name])

    def owns(self, process: Process, partition: int) -> bool:
        """What the coordinator thinks, which the process may not know yet."""
        return self._owners.get(partition) == process.writer

    def commit(self, process: Process, generation: int, offsets: Mapping[int, int]) -> None:
        """Keep the offsets.

        Raises:
            StaleGeneration: the coordinator has moved on; nothing was kept.
        """
        if generation != self.generation or any(self._owners.get(p) != process.writer for p in offsets):
            raise StaleGeneration(f"{self._name}: generation {generation} is not {self.generation}")
        self.committed.update(offsets)

    def _tell_later(self, member: Member) -> None:
        rng = self._kernel.rng
        latest_s = 0.1
        if self._kernel.faults_on:
            luck = rng.random()
            latest_s = LATE_NEWS_S if luck < 0.15 else 4.0 if luck < 0.4 else 0.1
        self._kernel.after(rng.random() * latest_s, self._tell, member)

    def _tell(self, member: Member) -> None:
        process = member.process
        if not process.alive:
            return
        if process.paused_until > self._kernel.now:
            self._kernel.after(process.paused_until - self._kernel.now, self._tell_later, member)
            return
        if process.writer not in self._members:
            self._members[process.writer] = member
            self.rebalance()
            return
        member.generation = self.generation
        member.partitions = tuple(p for p, name in self._owners.items() if name == process.writer)
        member.changed.set()

    def _expire(self, process: Process) -> None:
        away = not process.alive or process.paused_until > self._kernel.now
        member = self._members.get(process.writer)
        if not away or member is None:
            return
        del self._members[process.writer]
        self._kernel.coverage[f"{self._name}: member expired"] += 1
        self.rebalance()
        if process.alive:
            self._kernel.after(process.paused_until - self._kernel.now, self._tell_later, member)
