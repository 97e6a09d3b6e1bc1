"""The copier of ends under simulation: the terminal record that won in the fold of each run, into `runs.completed`.

It mirrors the dispatcher's `completed_copier` (whose code is bound to asyncio): wait until the own fold has reached
the batch, copy what won, commit.
"""

from __future__ import annotations

from trainyard_runtime.kafka.records import LogUnavailable
from trainyard_simulation.broker import Broker, Folded
from trainyard_simulation.consumer import Consumer
from trainyard_simulation.effects import Signal, Sleep
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

REACH_TIMER_S = 5.0
RETRY_S = 0.3


class Copier:
    """One incarnation in the group `completed-copier`."""

    def __init__(self, kernel: Kernel, broker: Broker, process: Process) -> None:
        self._kernel = kernel
        self._broker = broker
        self._wake = Signal(kernel)
        self._view = broker.subscribe(process, self._wake)
        self._consumer = Consumer(kernel, broker.copying, broker.lifecycle, process, self._wake)

    async def run(self) -> None:
        """For ever."""
        while True:
            batch = await self._consumer.next()
            ends = {p: records[-1].offset + 1 for p, records in batch.items()}
            while not self._view.has_reached(ends):
                await self._wake.wait(REACH_TIMER_S)
            for records in batch.values():
                for folded in records:
                    if self._won(folded):
                        await self._copy(folded)
            await self._consumer.commit(batch)

    def _won(self, folded: Folded) -> bool:
        state = self._view.states.get(folded.event.fact.run_id)
        return state is not None and state.is_ended and state.offset == folded.offset

    async def _copy(self, folded: Folded) -> None:
        self._kernel.coverage["window O2"] += 1
        while True:
            try:
                await self._broker.append_completed(folded.event)
            except LogUnavailable:
                await Sleep(RETRY_S)
            else:
                return
