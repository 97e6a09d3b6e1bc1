"""The slots of one process: who is woken for a task, and how all of them come to their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from trainyard_runtime.logs import get_logger
from trainyard_trainer_worker.serving import Slot

UNREGISTER_S: Final = 0.5


class Slots:
    """Several slots side by side, over the same queues.

    An attempt that is queued wakes one slot, and every slot that finds a task wakes another: as many look as there
    are tasks, and one more, however many slots there are and whatever news was missed.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        for slot in slots:
            slot.on_found = self.wake_one

    @property
    def are_served(self) -> bool:
        """True where ClearML knows all of them."""
        return all(slot.is_served for slot in self._slots)

    @property
    def busy(self) -> int:
        """How many have a task."""
        return sum(slot.is_busy for slot in self._slots)

    def wake_one(self) -> None:
        """Let one more slot that has no task look at the queues. (One that has a task looks when it is through.)"""
        idle = [slot for slot in self._slots if not slot.is_busy]
        chosen = next((slot for slot in idle if not slot.is_woken), None)
        if chosen is not None:
            chosen.wake()

    def wake_all(self) -> None:
        """Let every slot look at what has changed."""
        for slot in self._slots:
            slot.wake()

    async def serve(self) -> None:
        """Serve until they drain; a slot that breaks ends all."""
        async with asyncio.TaskGroup() as group:
            for index, slot in enumerate(self._slots):
                group.create_task(slot.serve(), name=f"slot-{index}")

    async def report_for_ever(self) -> None:
        """Signs of life to ClearML. Never returns."""
        await asyncio.gather(*(slot.report_for_ever() for slot in self._slots))

    async def unregister(self) -> None:
        """Leave ClearML, all at once. Best effort."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNREGISTER_S):
                await asyncio.gather(*(slot.unregister() for slot in self._slots))


async def drain(
    slots: Slots, stop: asyncio.Event, draining: asyncio.Event, stopping: asyncio.Event, drain_s: float
) -> None:
    """Turn the signals into an end. `draining` alone: the slots end by themselves, whenever they are through.

    `stop`: drain too, and set `stopping` after `drain_s` seconds. Returns when all is said.
    """
    log = get_logger(component="slots")
    waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(draining.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        log.info("draining", action="drain", busy=slots.busy, seconds=drain_s if stop.is_set() else None)
        draining.set()
        slots.wake_all()
        await stop.wait()
        await asyncio.sleep(drain_s)
        stopping.set()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
