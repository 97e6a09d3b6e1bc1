"""Watching over workers: how long one has been silent, and how long ago it was given up. Pure; one per process.

All times are seconds on the process's own steady clock. Silence is counted only while the heartbeats can be read to
their end: a broker's outage, or a pause of this very process, restarts the count (architecture, rule 5).
"""

from __future__ import annotations

from collections.abc import Iterable

from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase


class Vigil:
    """What one process has seen of the workers' signs of life.

    `gap_s`: two proofs of having read to the end that lie further apart do not join. With a third of the silence that
    makes a worker lost, a slow broker answers within it, and a worker that it kept from beating can be heard again.
    """

    def __init__(self, gap_s: float = 30.0) -> None:
        self._gap_s = gap_s
        self._since: float | None = None
        self._until: float | None = None
        self._heard: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self._lost: dict[tuple[str, int], float] = {}

    def heard(self, claim: str, at: float) -> None:
        """A heartbeat of this claim was read."""
        self._heard[claim] = at

    def read_to_end(self, sent_at: float) -> None:
        """A fetch that was sent at `sent_at` reached the heartbeats' end, and what it brought was `heard`."""
        if self._until is None or sent_at - self._until > self._gap_s:
            self._since = sent_at
        self._until = max(sent_at, self._until or sent_at)

    def observe(self, states: Iterable[RunState], now: float) -> None:
        """Take notice of the runs as the log has them now, and forget what is over."""
        begun: dict[str, float] = {}
        lost: dict[tuple[str, int], float] = {}
        for state in states:
            if state.phase is RunPhase.STARTED and state.claim is not None:
                begun[state.claim] = self._begun.get(state.claim, now)
            elif state.phase is RunPhase.ATTEMPT_LOST:
                at = (state.run_id, state.attempt)
                lost[at] = self._lost.get(at, now)
        self._begun, self._lost = begun, lost
        if len(self._heard) > 2 * len(begun) + 100:
            self._heard = {claim: at for claim, at in self._heard.items() if claim in begun}

    def silence_s(self, claim: str, now: float) -> float:
        """How long the holder of `claim` has certainly given no sign of life; 0 where that cannot be told."""
        if self._since is None or self._until is None or now - self._until > self._gap_s:
            return 0.0
        last = max(self._since, self._begun.get(claim, now), self._heard.get(claim, self._since))
        return max(0.0, self._until - last)

    def since_lost_s(self, run_id: str, attempt: int, now: float) -> float:
        """How long ago this process first saw the attempt as lost."""
        return now - self._lost.get((run_id, attempt), now)
