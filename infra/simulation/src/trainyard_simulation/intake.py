"""An intake under simulation: the production answer to each request, acknowledged before anything is committed."""

from __future__ import annotations

from trainyard_dispatcher.intake import Answer, DeadLetter, answer
from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable, Record
from trainyard_schemas.events import Event, make_event
from trainyard_simulation.broker import Broker
from trainyard_simulation.consumer import Consumer
from trainyard_simulation.effects import Call, Signal, Sleep, Together
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

SOURCE = "trainyard/dispatcher"
RETRY_S = 0.3


class Intake:
    """One incarnation in the group `intake`. `answers` is shared by all: the production answer is pure, so what is

    delivered again is not computed again.
    """

    def __init__(
        self, kernel: Kernel, broker: Broker, process: Process, tenant: str, answers: dict[Record, Answer]
    ) -> None:
        self._kernel = kernel
        self._broker = broker
        self._process = process
        self._tenant = tenant
        self._answers = answers
        wake = broker.request_signals[process.name] = Signal(kernel)
        self._consumer = Consumer(kernel, broker.intake, broker.requested, process, wake)

    async def run(self) -> None:
        """Fetch, answer, append, wait for all acknowledgements, commit; for ever."""
        coverage = self._kernel.coverage
        while True:
            batch = await self._consumer.next()
            answers = [self._answer(record) for records in batch.values() for record in records]
            coverage["window I1"] += 1
            await Together("append answer", [self._append(a) for a in answers])
            coverage["window I3"] += 1
            await self._consumer.commit(batch, self._broker.note_commit_of_requests)

    def _answer(self, record: Record) -> Answer:
        given = self._answers.get(record)
        if given is None:
            given = self._answers[record] = answer(record, self._tenant)
        return given

    async def _append(self, given: Answer) -> None:
        event = make_event(given.fact, source=SOURCE, writer=self._process.writer, now=self._kernel.now)
        if given.dead_letter is not None:
            await self._insist(given.dead_letter)
        await self._insist(event)

    async def _insist(self, what: Event | DeadLetter) -> None:
        """The dead letter and the event each until it is acknowledged."""
        while True:
            try:
                await self._append_call(what)
            except LogUnavailable as error:
                if isinstance(error, AppendUnknown):
                    self._kernel.coverage["window I2"] += 1
                await Sleep(RETRY_S)
            else:
                return

    def _append_call(self, what: Event | DeadLetter) -> Call:
        if isinstance(what, Event):
            return self._broker.append_event(what)
        return self._broker.append_dead_letter(what)
