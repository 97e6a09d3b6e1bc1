"""What is counted about runs: a pure fold beside the lifecycle's own.

The tally and the states it follows are stored together with the log's offsets, so a restart counts nothing twice and
skips nothing; folding the whole log again gives the same bytes.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import TypeAdapter

from trainyard_schemas.codec import canonical
from trainyard_schemas.lifecycle import RunState, Step
from trainyard_schemas.trainers import TRAINERS
from trainyard_schemas.vocabulary import RunPhase

VERSION: Final = 3
"""Counts up when the counting or its stored form changes: then the projection starts over from the log."""

OTHER: Final = "other"
"""The label of a trainer that the registry does not know: a bad request must not make a time series of its own."""

BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0)
_RUN_STATE: Final = TypeAdapter(RunState)
_ATTEMPT_ENDS: Final = frozenset(
    {RunPhase.ATTEMPT_SUCCEEDED, RunPhase.ATTEMPT_FAILED, RunPhase.ATTEMPT_LOST, RunPhase.ATTEMPT_CANCELLED}
)


@dataclass(slots=True)
class Durations:
    """A histogram: `counts` per bucket of BUCKETS_S and one for what is longer, not cumulative; `sum_s` in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration; writers' clocks may disagree, so a negative one counts as 0."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass(slots=True)
class Tally:
    """The counts. Labels are values of closed vocabularies: phases, known trainers, reasons, verdicts."""

    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many runs are in a state now, by (state, trainer)."""
    ended: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How many runs have ended, by (state, trainer, reason); the reason of a completed run is empty."""
    attempts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How many attempts have ended, by (state, trainer, reason); one that succeeded has an empty reason. A run that is
    tried again after a lost worker shows nowhere else."""
    phases: dict[tuple[str, str], Durations] = field(default_factory=dict)
    """How long parts of a run's life took, by (phase, trainer): dispatch, queue, training, total."""
    records: Counter[str] = field(default_factory=Counter)
    """What became of the log's records, by verdict, and `unreadable`."""

    def observe(self, before: RunState | None, step: Step) -> None:
        """Count one record of the log: `step` is what the fold made of it after `before`."""
        self.records[step.verdict.value] += 1
        after = step.state
        if after is None or after is before or (before is not None and after.phase is before.phase):
            return
        trainer = trainer_label(after)
        if before is not None:
            self.runs[before.phase.value, trainer] -= 1
        self.runs[after.phase.value, trainer] += 1
        for phase, seconds in _durations(before, after):
            self.phases.setdefault((phase, trainer), Durations()).observe(seconds)
        if after.is_ended:
            self.ended[after.phase.value, trainer, _reason(after)] += 1
        elif after.phase in _ATTEMPT_ENDS:
            self.attempts[after.phase.value, trainer, _reason(after)] += 1

    def unreadable(self) -> None:
        """Count a record of the log that is no event of ours."""
        self.records["unreadable"] += 1

    def encode(self) -> bytes:
        """The tally as canonical JSON; equal tallies have equal bytes."""
        return canonical(
            {
                "runs": sorted([*key, n] for key, n in self.runs.items()),
                "ended": sorted([*key, n] for key, n in self.ended.items()),
                "attempts": sorted([*key, n] for key, n in self.attempts.items()),
                "phases": sorted([*key, d.counts, d.sum_s] for key, d in self.phases.items()),
                "records": dict(self.records),
            }
        )

    @classmethod
    def decode(cls, value: bytes) -> Tally:
        """The tally that `encode` wrote."""
        document = json.loads(value)
        return cls(
            runs=Counter({(state, trainer): n for state, trainer, n in document["runs"]}),
            ended=Counter({(state, trainer, reason): n for state, trainer, reason, n in document["ended"]}),
            attempts=Counter({(state, trainer, reason): n for state, trainer, reason, n in document["attempts"]}),
            phases={(phase, trainer): Durations(counts, sum_s) for phase, trainer, counts, sum_s in document["phases"]},
            records=Counter(document["records"]),
        )


def trainer_label(state: RunState) -> str:
    """The run's trainer where the registry knows it, else `other`."""
    trainer = state.request.get("trainer")
    return trainer if isinstance(trainer, str) and trainer in TRAINERS else OTHER


def compact(state: RunState) -> RunState:
    """The state without what neither the fold nor the tally looks at: small enough to keep for every run."""
    small = replace(
        state, request={"trainer": trainer_label(state)}, results=None, message="", cancel_message="", worker=None
    )
    return replace(small, queue=None, queue_id=None) if state.is_ended else small


def encode_state(state: RunState) -> bytes:
    """A compact state as canonical JSON."""
    return canonical(_RUN_STATE.dump_python(state, mode="json", exclude_defaults=True))


def decode_state(value: bytes) -> RunState:
    """The state that `encode_state` wrote."""
    return _RUN_STATE.validate_json(value)


def _reason(state: RunState) -> str:
    """Why a run or an attempt ended as it did; empty where it went well."""
    went_well = state.phase in (RunPhase.COMPLETED, RunPhase.ATTEMPT_SUCCEEDED)
    return "" if went_well or state.reason is None else state.reason.value


def _durations(before: RunState | None, after: RunState) -> list[tuple[str, float]]:
    """The parts of a run's life that this step ended, in seconds."""
    if before is None:
        return []
    if after.phase is RunPhase.DISPATCHED and after.dispatched_at is not None:
        since = before.attempt_ended_at if before.attempt else before.accepted_at
        return [("dispatch", after.dispatched_at - (since or after.dispatched_at))]
    if after.phase is RunPhase.STARTED and after.started_at is not None:
        since = after.queued_at or after.dispatched_at or after.started_at
        return [("queue", after.started_at - since)]
    if before.phase is RunPhase.STARTED and after.attempt_ended_at is not None and before.started_at is not None:
        return [("training", after.attempt_ended_at - before.started_at)]
    if after.is_ended and after.ended_at is not None:
        return [("total", after.ended_at - after.accepted_at)]
    return []
