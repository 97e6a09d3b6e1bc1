"""Following one run through the log: pure folding of what a reader brings, without a Kafka client.

A submitted request is answered in one of three ways, and the answer bears the request's own origin:
`run.accepted` under the run's id, `run.rejected` under the id made of the origin, or, where another request holds the
idempotency key, an `accepted` that loses with another digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from trainyard_runtime.kafka.facts import event_in
from trainyard_runtime.kafka.records import Record
from trainyard_schemas import events as ev
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import Event
from trainyard_schemas.ids import Origin
from trainyard_schemas.lifecycle import RunState, Verdict, apply


class Answer(StrEnum):
    """What intake made of one request."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Followed:
    """One event of a run as it stood in the log.

    `verdict` says whether it counts in the fold, `state` is the run after it. Progress (`attempt.heartbeat`) changes no
    state and has no verdict.
    """

    event: Event
    state: RunState | None
    verdict: Verdict | None
    offset: int

    @property
    def counts(self) -> bool:
        """True where the event changed or noted something, and for progress of the worker that holds the run."""
        return self.verdict is None or self.verdict.is_effective


class Watch:
    """The fold of one run, and of the refusal of the request that asked for it.

    Feed it the run's records in the order of their partition, from at or before its `run.accepted`.
    """

    def __init__(self, run_id: str, *, origin: Origin | None = None, rejected_run_id: str | None = None) -> None:
        self.run_id = run_id
        self.origin = origin
        self.state: RunState | None = None
        self.answer: Answer | None = None
        self._rejected_run_id = rejected_run_id
        self._keys = {run_id.encode()} | ({rejected_run_id.encode()} if rejected_run_id else set())

    @property
    def is_over(self) -> bool:
        """True when nothing more can come: the run has ended, and our own request, if there is one, was answered."""
        if self.answer in (Answer.REJECTED, Answer.CONFLICT):
            return True
        if self.origin is not None and self.answer is None:
            return False
        return self.state is not None and self.state.is_ended

    def feed(self, record: Record) -> Followed | None:
        """What a record of `runs.lifecycle` or `runs.heartbeats` means here; None where it is another run's."""
        if record.key not in self._keys:
            return None
        event = decoded(record)
        if event is None:
            return None
        fact = event.fact
        if isinstance(fact, ev.AttemptHeartbeat):
            return self._progress(event, fact, record.offset)
        if fact.run_id == self.run_id:
            step = apply(self.state, event, record.offset)
            self.state = step.state
            if isinstance(fact, ev.RunAccepted) and self._is_ours(fact.origin):
                conflict = step.verdict is Verdict.CONFLICT
                self.answer = Answer.CONFLICT if conflict else Answer.ACCEPTED
            elif isinstance(fact, ev.RunRejected) and step.verdict is Verdict.WON:
                self.answer = Answer.REJECTED
            return Followed(event, step.state, step.verdict, record.offset)
        if fact.run_id == self._rejected_run_id and isinstance(fact, ev.RunRejected):
            return self._rejected(event, fact, record.offset)
        return None

    def _progress(self, event: Event, fact: ev.AttemptHeartbeat, offset: int) -> Followed | None:
        if fact.run_id != self.run_id or self.state is None or fact.claim != self.state.claim:
            return None
        return Followed(event, self.state, None, offset)

    def _rejected(self, event: Event, fact: ev.RunRejected, offset: int) -> Followed:
        if fact.conflicts_with is not None:
            self.answer = Answer.CONFLICT
            return Followed(event, self.state, Verdict.NOTED, offset)
        step = apply(None, event, offset)
        self.answer, self.state = Answer.REJECTED, step.state
        return Followed(event, step.state, step.verdict, offset)

    def _is_ours(self, origin: ev.OriginRecord) -> bool:
        # The timestamp is not compared: a topic may be set to stamp records by the broker's own clock.
        ours = self.origin
        return ours is not None and (origin.partition, origin.offset) == (ours.partition, ours.offset)


def decoded(record: Record) -> Event | None:
    """The event in a record; None where it is none of ours, which readers pass over."""
    try:
        return event_in(record)
    except ContractError:
        return None


def fold_runs(records: Iterable[Record]) -> dict[str, RunState]:
    """The state of every run whose `accepted` or `rejected` is among the records, in partition order."""
    states: dict[str, RunState] = {}
    for record in records:
        event = decoded(record)
        if event is None:
            continue
        run_id = event.fact.run_id
        state = apply(states.get(run_id), event, record.offset).state
        if state is not None:
            states[run_id] = state
    return states
