"""The table of runs, folded from the log: pure, and bounded however long the log is.

A run that has not ended is kept with its events. One that has ended is kept as its row and its document, deflated; of
those only the newest are kept. A record that does not count in the fold changes nothing, so the table is the same
however often records are repeated.
"""

from __future__ import annotations

import heapq
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from trainyard_runtime.kafka.records import Record
from trainyard_schemas.events import AttemptHeartbeat
from trainyard_schemas.lifecycle import RunState, apply
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter.explaining import QueueFacts
from trainyard_submitter.following import Followed, decoded
from trainyard_submitter.gateway.run_document import Json, document, progress, row


@dataclass(slots=True)
class _Kept:
    """One run; `history` is empty and `packed` holds its document once it has ended."""

    accepted_at: float
    row: Json
    history: list[Followed] = field(default_factory=list)
    packed: bytes = b""

    @property
    def state(self) -> RunState | None:
        return self.history[-1].state if self.history else None


class RunTable:
    """Feed it the records of `runs.lifecycle` in partition order, and those of `runs.heartbeats` as they come.

    `max_ended` is how many ended runs are kept: those that were accepted last, whatever order they come in.
    """

    def __init__(self, max_ended: int) -> None:
        self._max_ended = max_ended
        self._runs: dict[str, _Kept] = {}
        self._ended: list[tuple[float, str]] = []
        self._dropped: set[int] = set()
        self.unreadable = 0

    def feed(self, record: Record) -> str | None:
        """The id of the run that a record of `runs.lifecycle` changed; None where it changed none."""
        event = decoded(record)
        if event is None:
            self.unreadable += 1
            return None
        run_id = event.fact.run_id
        kept = self._runs.get(run_id)
        if (kept is not None and kept.packed) or hash(run_id) in self._dropped:
            return None  # nothing follows an end
        step = apply(kept.state if kept is not None else None, event, record.offset)
        if step.state is None or not step.verdict.is_effective:
            return None
        if kept is None:
            kept = self._runs[run_id] = _Kept(step.state.accepted_at, {})
        kept.history.append(Followed(event, step.state, step.verdict, record.offset))
        known = kept.row.get("progress") if step.state.phase is RunPhase.STARTED else None
        kept.row = row(step.state, known)
        if step.state.is_ended:
            self._pack(run_id, kept)
        return run_id

    def hear(self, record: Record) -> str | None:
        """The id of the run whose progress a record of `runs.heartbeats` tells; None where it is nobody's any more."""
        event = decoded(record)
        if event is None or not isinstance(event.fact, AttemptHeartbeat):
            return None
        kept = self._runs.get(event.fact.run_id)
        state = kept.state if kept is not None else None
        if kept is None or state is None or state.phase is not RunPhase.STARTED or state.claim != event.fact.claim:
            return None
        before = kept.row.get("progress")
        if before is not None and before["seq"] >= event.fact.seq:
            return None
        kept.row = row(state, progress(event))
        return state.run_id

    def clear(self) -> None:
        """Forget everything: the log is another one."""
        self._runs, self._ended, self._dropped = {}, [], set()

    def rows(self) -> Iterator[Json]:
        """The rows, those of the runs accepted last first."""
        for kept in sorted(self._runs.values(), key=lambda k: (-k.accepted_at, str(k.row["run_id"]))):
            yield kept.row

    def row(self, run_id: str) -> Json | None:
        """One row; None for a run that is not kept."""
        kept = self._runs.get(run_id)
        return kept.row if kept is not None else None

    def state(self, run_id: str) -> RunState | None:
        """The state of a run that has not ended."""
        kept = self._runs.get(run_id)
        return kept.state if kept is not None else None

    def document(self, run_id: str, now: float, queue: QueueFacts | None = None) -> Json | None:
        """Everything of one run; None for a run that is not kept. `queue` is what ClearML says of its queue."""
        kept = self._runs.get(run_id)
        if kept is None:
            return None
        if kept.packed:
            packed: Json = json.loads(zlib.decompress(kept.packed))
            return packed
        return document(kept.history, now, queue) | {"progress": kept.row["progress"]}

    def open_states(self) -> Iterator[RunState]:
        """The states of the runs that have not ended."""
        for kept in self._runs.values():
            if (state := kept.state) is not None:
                yield state

    def __len__(self) -> int:
        return len(self._runs)

    def _pack(self, run_id: str, kept: _Kept) -> None:
        state = kept.state
        assert state is not None
        whole = document(kept.history, state.ended_at or state.accepted_at, None) | {"progress": None}
        kept.packed, kept.history = zlib.compress(json.dumps(whole).encode()), []
        heapq.heappush(self._ended, (kept.accepted_at, run_id))
        if len(self._ended) > self._max_ended:
            _, oldest = heapq.heappop(self._ended)
            del self._runs[oldest]
            self._dropped.add(hash(oldest))  # so that the same request, sent again, is not taken for a new run
