"""An intake under simulation: the production answer to each request, acknowledged before anything is committed."""

from __future__ import annotations

from trainyard_dispatcher.intake import Answer, DeadLetter, answer
from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable, Record
from trainyard_schemas.events import Event, make_event
from trainyard_simulation.broker import Broker
from trainyard_simulation.effects import Signal, Sleep, Together
from trainyard_simulation.groups import StaleGeneration
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

SOURCE = "trainyard/dispatcher"
IDLE_S = 120.0
"""Woken by each request and each rebalance; this is only the fallback, long to save steps."""

MAX_BATCH = 4


class Intake:
    """One incarnation in the group `intake`."""

    def __init__(
        self, kernel: Kernel, broker: Broker, process: Process, tenant: str, answers: dict[Record, Answer]
    ) -> None:
        self._kernel = kernel
        self._broker = broker
        self._process = process
        self._tenant = tenant
        self._answers = answers
        self._wake = broker.request_signals[process.name] = Signal(kernel)
        self._member = broker.intake.join(process, self._wake)
        self._positions: dict[int, int] = {}
        self._generation = -1

    async def run(self) -> None:
        """Fetch, answer, append, wait for all acknowledgements, commit; for ever."""
        while True:
            try:
                if self._generation != self._member.generation:
                    await self._take_partitions()
                batch = await self._fetch()
            except LogUnavailable:
                await Sleep(0.5)
                continue
            if not batch:
                await self._wake.wait(IDLE_S)
                continue
            answers = [self._answer(record) for record in batch]
            self._kernel.coverage["window I1"] += 1
            await Together("append answer", [self._append(a) for a in answers])
            self._kernel.coverage["window I3"] += 1
            await self._commit(batch)

    async def _take_partitions(self) -> None:
        generation, partitions = self._member.generation, self._member.partitions
        committed = self._broker.intake.committed
        self._positions = await self._broker.read(
            "read committed offsets", lambda: {p: committed.get(p, 0) for p in partitions}
        )
        self._generation = generation

    async def _fetch(self) -> list[Record]:
        """Some records of the partitions that this process believes to own: a prefix of what is there."""
        broker, rng = self._broker, self._kernel.rng

        def apply() -> list[Record]:
            found: list[Record] = []
            for partition, position in self._positions.items():
                log = broker.requested.get(partition)
                if log is not None and len(log) > position:
                    found += log[position : position + 1 + int(rng.random() * MAX_BATCH)]
            return found

        if not self._positions:
            return []
        batch: list[Record] = await broker.read("fetch", apply)
        return batch

    def _answer(self, record: Record) -> Answer:
        """The production answer; pure, so what is delivered again is not computed again."""
        given = self._answers.get(record)
        if given is None:
            given = self._answers[record] = answer(record, self._tenant)
        return given

    async def _append(self, given: Answer) -> None:
        event = make_event(given.fact, source=SOURCE, writer=self._process.writer, now=self._kernel.now)
        if given.dead_letter is not None:
            await self._insist_letter(given.dead_letter)
        await self._insist_event(event)

    async def _insist_event(self, event: Event) -> None:
        while True:
            try:
                await self._broker.append_event(event)
            except LogUnavailable as error:
                self._note_unknown(error)
                await Sleep(0.3)
            else:
                return

    async def _insist_letter(self, letter: DeadLetter) -> None:
        while True:
            try:
                await self._broker.append_dead_letter(letter)
            except LogUnavailable as error:
                self._note_unknown(error)
                await Sleep(0.3)
            else:
                return

    def _note_unknown(self, error: LogUnavailable) -> None:
        if isinstance(error, AppendUnknown):
            self._kernel.coverage["window I2"] += 1

    async def _commit(self, batch: list[Record]) -> None:
        """Commit {partition: offset + 1}; where the group has moved on, take its word for what to read next."""
        offsets: dict[int, int] = {}
        for record in batch:
            offsets[record.partition] = record.offset + 1
        self._positions.update(offsets)
        process, generation = self._process, self._generation
        try:
            await self._broker.commit_intake(process, generation, offsets)
        except StaleGeneration:
            self._kernel.coverage["commit of an older generation refused"] += 1
            self._generation = -2
        except LogUnavailable:
            self._generation = -2
