"""All runs as the log tells them: the fold, its counters, and its memory on disk.

Open runs are in memory; every run that the log ever told of is in the
projection, so a late record of an ended run still meets that run's state.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from trainyard_dispatcher.run_ends import conflict_answer
from trainyard_dispatcher.state_codec import decode_state, encode_state
from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.kafka.facts import event_in
from trainyard_runtime.kafka.records import Record
from trainyard_runtime.projection import Entry, Projection
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import Event, RunAccepted, decode_event
from trainyard_schemas.lifecycle import RunState, Verdict, apply
from trainyard_schemas.topics import RUN_PARTITIONS

OPEN, ENDED, CONFLICT = "open", "ended", "conflict"
FLUSH_EVERY_S = 0.2


class RunIndex:
    """The fold of `runs.lifecycle` over all partitions.

    Not for several threads; `flush` writes in another one.
    """

    def __init__(self, projection: Projection, topic: str, *, requests: str) -> None:
        """`topic` is the lifecycle's, `requests` the one that intake reads: the only place to look a request up."""
        self._requests = requests
        self._projection = projection
        self._topic = topic
        self._next: dict[int, int] = {}
        self._states: dict[str, RunState] = {}
        self._dirty: dict[str, Entry | None] = {}
        self._being_written: Mapping[str, Entry | None] = {}
        self._moved = asyncio.Event()
        self.conflicts: dict[str, RunAccepted] = {}
        """Requests that lost their key to another one and await their answer, by the answer's run id."""
        self.verdicts: Counter[Verdict] = Counter()
        self.unreadable = 0
        self.foreign_conflicts = 0
        """Conflicts passed over because their request stands in no partition of ours; nothing was looked up."""

    def load(self, first_offsets: Mapping[int, int], end_offsets: Mapping[int, int]) -> dict[int, int]:
        """Take up what the projection holds; returns where to go on per partition.

        A projection that is ahead of the log belongs to a topic that is gone: then it starts over.
        """
        stored = {p: offset for (topic, p), offset in self._projection.offsets().items() if topic == self._topic}
        if any(offset > end_offsets.get(p, 0) for p, offset in stored.items()):
            self._projection.clear()
            stored = {}
        self._next = {p: max(first, stored.get(p, 0)) for p, first in first_offsets.items()}
        for run_id, value in self._projection.entries(OPEN):
            self._states[run_id] = decode_state(value)
        for _, value in self._projection.entries(CONFLICT):
            fact = decode_event(value).fact
            if isinstance(fact, RunAccepted) and self._is_of_intake(fact):
                self.conflicts[conflict_answer(fact).run_id] = fact
        return dict(self._next)

    @property
    def states(self) -> Mapping[str, RunState]:
        """The runs in memory: all that are open."""
        return self._states

    @property
    def next_offsets(self) -> Mapping[int, int]:
        """Per partition the next offset to fold."""
        return self._next

    def state_of(self, run_id: str) -> RunState | None:
        """A run's state, also one that left memory."""
        state = self._states.get(run_id)
        if state is not None:
            return state
        entry = self._dirty.get(run_id) or self._being_written.get(run_id) or self._projection.get(run_id)
        return decode_state(entry.value) if entry is not None and entry.kind in (OPEN, ENDED) else None

    def fold(self, records: Sequence[Record]) -> None:
        """Fold a batch of records of the lifecycle topic, in offset order per partition; a known one is passed over."""
        for record in records:
            expected = self._next.get(record.partition, 0)
            if record.offset < expected:
                continue
            self._next[record.partition] = record.offset + 1
            self._fold_one(record)
        self._moved.set()
        self._moved.clear()

    def has_reached(self, offsets: Mapping[int, int]) -> bool:
        """True where everything before these offsets is folded."""
        return all(self._next.get(p, 0) >= offset for p, offset in offsets.items())

    async def reached(self, offsets: Mapping[int, int]) -> None:
        """Wait until everything before these offsets is folded."""
        while not self.has_reached(offsets):
            await self._moved.wait()

    async def knows(self, run_id: str) -> None:
        """Wait until the log has told of this run."""
        while self.state_of(run_id) is None:
            await self._moved.wait()

    def _fold_one(self, record: Record) -> None:
        try:
            event = event_in(record)
        except ContractError:
            self.unreadable += 1
            return
        run_id = event.fact.run_id
        before = self.state_of(run_id)
        step = apply(before, event, record.offset)
        self.verdicts[step.verdict] += 1
        if step.verdict is Verdict.CONFLICT:
            self._note_conflict(event, record)
        if step.state is None or step.state is before:
            return
        self._keep(step.state)

    def _keep(self, state: RunState) -> None:
        run_id = state.run_id
        self._dirty[run_id] = Entry(ENDED if state.is_ended else OPEN, encode_state(state))
        if self.conflicts.pop(run_id, None) is not None:
            self._dirty[_conflict_key(run_id)] = None
        if state.is_ended:
            self._states.pop(run_id, None)
        else:
            self._states[run_id] = state

    def _note_conflict(self, event: Event, record: Record) -> None:
        assert isinstance(event.fact, RunAccepted)
        if not self._is_of_intake(event.fact):
            self.foreign_conflicts += 1
            return
        answer_id = conflict_answer(event.fact).run_id
        if answer_id in self.conflicts or self.state_of(answer_id) is not None:
            return
        self.conflicts[answer_id] = event.fact
        self._dirty[_conflict_key(answer_id)] = Entry(CONFLICT, record.value or b"")

    def _is_of_intake(self, fact: RunAccepted) -> bool:
        """Whether the origin can be one of intake's: whoever writes to the log could name any topic, and the record
        that stands there would be copied to the dead letters."""
        origin = fact.origin
        return origin.topic == self._requests and 0 <= origin.partition < RUN_PARTITIONS and origin.offset >= 0

    async def flush(self) -> None:
        """Write what changed, with the offsets that it reflects, in one transaction and off the event loop."""
        entries, self._dirty = self._dirty, {}
        offsets = {(self._topic, partition): offset for partition, offset in self._next.items()}
        self._being_written = entries
        failpoint("P1")
        try:
            await asyncio.to_thread(self._projection.write, entries, offsets)
        except BaseException:
            self._dirty = {**entries, **self._dirty}
            raise
        finally:
            self._being_written = {}
        failpoint("P2")

    async def keep_flushing(self) -> None:
        """Flush every `FLUSH_EVERY_S` while there is something to write; ends only by cancellation or an error."""
        written = dict(self._next)
        while True:
            if written == self._next:
                await self._moved.wait()
            await asyncio.sleep(FLUSH_EVERY_S)
            written = dict(self._next)
            await self.flush()


def _conflict_key(run_id: str) -> str:
    return f"conflict:{run_id}"
