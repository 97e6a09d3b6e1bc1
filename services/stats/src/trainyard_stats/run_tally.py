"""The tally over all runs, and its memory on disk: states, counts and offsets in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.kafka.facts import event_in
from trainyard_runtime.kafka.records import Record
from trainyard_runtime.projection import Entry, Projection
from trainyard_schemas.errors import ContractError
from trainyard_schemas.lifecycle import RunState, apply
from trainyard_stats.run_metrics import Tally, compact, decode_state, encode_state

OPEN, ENDED, TALLY = "open", "ended", "tally"


class RunTally:
    """Folds records of `runs.lifecycle` into a tally.

    Open runs are in memory, ended ones only on disk, so a late record of an ended run still meets its state. `fold`
    and `flush` are for one coroutine; `flush` writes in another thread.
    """

    def __init__(self, projection: Projection, topic: str) -> None:
        self._projection = projection
        self._topic = topic
        self._open: dict[str, RunState] = {}
        self._dirty: dict[str, Entry | None] = {}
        self._next: dict[int, int] = {}
        self.tally = Tally()

    def load(self, first: Mapping[int, int], ends: Mapping[int, int]) -> int:
        """Take up what is stored. `first` and `ends` are the log's first and end offsets per partition.

        What is ahead of the log belongs to a topic that is gone: then the count starts over. Returns how many offsets
        retention deleted before they were counted.
        """
        stored = {p: offset for (topic, p), offset in self._projection.offsets().items() if topic == self._topic}
        if any(offset > ends.get(p, 0) for p, offset in stored.items()):
            self._projection.clear()
            stored = {}
        self._next = {p: max(offset, stored.get(p, 0)) for p, offset in first.items()}
        self._open = {run_id: decode_state(value) for run_id, value in self._projection.entries(OPEN)}
        entry = self._projection.get(TALLY)
        self.tally = Tally.decode(entry.value) if entry is not None else Tally()
        return sum(max(0, offset - stored[p]) for p, offset in first.items() if p in stored)

    @property
    def next_offsets(self) -> Mapping[int, int]:
        """Per partition the next offset to fold."""
        return self._next

    def open_runs(self) -> tuple[RunState, ...]:
        """The runs that have not ended."""
        return tuple(self._open.values())

    def fold(self, partition: int, records: Sequence[Record]) -> None:
        """Fold records of one partition in offset order; those that were folded already are passed over."""
        for record in records:
            if record.offset < self._next[partition]:
                continue
            self._next[partition] = record.offset + 1
            try:
                event = event_in(record)
            except ContractError:
                self.tally.unreadable()
                continue
            before = self._state_of(event.fact.run_id)
            step = apply(before, event, record.offset)
            self.tally.observe(before, step)
            if step.state is not None and step.state is not before:
                self._keep(compact(step.state))

    async def flush(self) -> None:
        """Write what changed, with the offsets that it reflects, durably and in one transaction."""
        offsets = {(self._topic, partition): offset for partition, offset in self._next.items()}
        entries = {**self._dirty, TALLY: Entry(TALLY, self.tally.encode())}
        failpoint("P1")
        writing = asyncio.create_task(asyncio.to_thread(self._projection.write, entries, offsets))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing  # the file must not be closed under the thread that writes
            raise
        self._dirty = {}
        failpoint("P2")

    def _state_of(self, run_id: str) -> RunState | None:
        state = self._open.get(run_id)
        if state is not None:
            return state
        entry = self._dirty.get(run_id) or self._projection.get(run_id)
        return decode_state(entry.value) if entry is not None else None

    def _keep(self, state: RunState) -> None:
        self._dirty[state.run_id] = Entry(ENDED if state.is_ended else OPEN, encode_state(state))
        if state.is_ended:
            self._open.pop(state.run_id, None)
        else:
            self._open[state.run_id] = state
