"""How likely each thing goes wrong, and how long it takes. Drawn once per seed; each draw comes from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """What may happen to one request."""

    ABSENT = "server absent"  # surely not applied
    REQUEST_LOST = "request lost"  # not applied, and the caller does not know
    ANSWER_LOST = "answer lost"  # applied, and the caller does not know
    APPLIED_LATE = "applied late"  # applied after the caller gave up
    APPLIED_TWICE = "applied twice"  # a transport below sent it again


_EFFECT_FAULTS = (
    Fault.ABSENT,
    Fault.REQUEST_LOST,
    Fault.ANSWER_LOST,
    Fault.ANSWER_LOST,
    Fault.APPLIED_LATE,
    Fault.APPLIED_TWICE,
)
_RATES = (0.0, 0.005, 0.02, 0.06)
_LOST_RATES = (0.0, 0.02, 0.08, 0.25)


@dataclass(frozen=True, slots=True)
class Chances:
    """The chances of one seed. Rates are per request; all times in seconds of virtual time."""

    crash: float
    pause: float
    lost: float
    rebalance_every_s: float
    slow: float
    mortal: frozenset[str]

    @classmethod
    def drawn(cls, rng: Random, mortal: frozenset[str]) -> Chances:
        """Chances for one seed: some seeds are calm, some lose a quarter of all answers."""
        return cls(
            crash=rng.choice(_RATES),
            pause=rng.choice(_RATES),
            lost=rng.choice(_LOST_RATES),
            rebalance_every_s=rng.choice((0.0, 2.0, 15.0)),
            slow=rng.choice((0.0, 0.02, 0.1)),
            mortal=mortal,
        )

    def hits(self, rng: Random, rate: float) -> bool:
        return rate > 0.0 and rng.random() < rate

    def latency_s(self, rng: Random) -> float:
        """One way of one message: 1 to 20 ms, and now and then up to 8 s."""
        if self.slow and rng.random() < self.slow:
            return rng.random() * 8.0
        return 0.001 + rng.random() * 0.019

    def timeout_s(self, rng: Random) -> float:
        """How long a caller waits for an answer that does not come."""
        return 1.0 + rng.random() * 9.0

    def late_s(self, rng: Random) -> float:
        """How much later than its caller's patience a request may still be applied."""
        return rng.random() ** 2 * 30.0

    def pause_s(self, rng: Random) -> float:
        """A stop of the whole process: longer than any session now and then."""
        return 0.1 + rng.random() ** 2 * 90.0

    def restart_delay_s(self, rng: Random) -> float:
        return 0.2 + rng.random() ** 2 * 15.0

    def pick_fault(self, rng: Random, *, is_effect: bool) -> Fault:
        """A read is repeated at will, so it can only be absent."""
        return _EFFECT_FAULTS[int(rng.random() * len(_EFFECT_FAULTS))] if is_effect else Fault.ABSENT


CALM = Chances(crash=0.0, pause=0.0, lost=0.0, rebalance_every_s=0.0, slow=0.0, mortal=frozenset())
"""Nothing goes wrong."""
