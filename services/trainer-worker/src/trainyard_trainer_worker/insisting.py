"""Repeating what the world did not answer. Awaits ports only, so that the simulation drives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from trainyard_runtime.kafka.records import LogUnavailable
from trainyard_schemas.lifecycle import RunState, apply
from trainyard_trainer_worker.ports import Ending, Ports, RunRecords, TasksRefused, TasksUnavailable

T = TypeVar("T")


async def insist(action: Callable[[], Awaitable[T]], ports: Ports) -> T:
    """Repeat `action` until it answers. Raises Ending, and whatever says that repeating is of no use."""
    tries = 0
    while True:
        try:
            return await action()
        except (LogUnavailable, TasksUnavailable):  # AppendUnknown is a LogUnavailable: the same record again
            tries += 1
            await ports.patience.wait(tries)


async def try_to_tell(action: Callable[[], Awaitable[None]], ports: Ports, limit: int) -> bool:
    """Repeat `action` up to `limit` times; False where ClearML was not told. Never raises."""
    for tries in range(1, limit + 1):
        try:
            await action()
        except TasksRefused:
            return False
        except TasksUnavailable:
            if tries == limit:
                return False
            try:
                await ports.patience.wait(tries)
            except Ending:
                return False
        else:
            return True
    return False


async def fold_on(
    state: RunState | None, run_id: str, from_offset: int | None, ports: Ports
) -> tuple[RunState | None, int]:
    """The fold of the run after all records from `from_offset` to the log's end, and the offset to go on from."""
    records: RunRecords = await insist(lambda: ports.log.read_run(run_id, from_offset), ports)
    return folded(state, records), records.next_offset


def folded(state: RunState | None, records: RunRecords) -> RunState | None:
    """The state after these records."""
    for offset, event in records.events:
        state = apply(state, event, offset).state
    return state
