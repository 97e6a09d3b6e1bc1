"""How likely each thing goes wrong, and how long it takes. Drawn once per seed; each draw comes from the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """What may befall one request, or the process that sends it."""

    CRASH_BEFORE = "crash before"  # its process dies instead of sending it
    CRASH_AFTER = "crash after"  # its process dies while it waits; what was sent is applied all the same
    PAUSE_BEFORE = "pause before"  # its process is stopped and sends it when it resumes
    PAUSE_AFTER = "pause after"  # its process is stopped while it waits
    ABSENT = "server absent"  # surely not applied
    REQUEST_LOST = "request lost"  # not applied, and the caller does not know
    ANSWER_LOST = "answer lost"  # applied, and the caller does not know
    APPLIED_LATE = "applied late"  # applied after the caller gave up
    APPLIED_TWICE = "applied twice"  # a transport below sent it again


DEATHS = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
PAUSES = (Fault.PAUSE_BEFORE, Fault.PAUSE_AFTER)
LOSSES = (Fault.ABSENT, Fault.REQUEST_LOST, Fault.ANSWER_LOST, Fault.APPLIED_LATE, Fault.APPLIED_TWICE)
_DRAWN_LOSSES = (*LOSSES, Fault.ANSWER_LOST)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What can befall a request: may its process die or pause, can the server be absent, does the request do anything

    (a read is repeated at will, so for it a lost answer is the same as an absent server).
    """

    dies: bool
    pauses: bool
    is_absent: bool
    is_effect: bool

    def faults(self) -> tuple[Fault, ...]:
        """All that can befall it."""
        losses = LOSSES if self.is_effect else (Fault.ABSENT,) if self.is_absent else ()
        return (*(DEATHS if self.dies else ()), *(PAUSES if self.pauses else ()), *losses)


_RATES = (0.0, 0.005, 0.02, 0.06)
_LOST_RATES = (0.0, 0.02, 0.08, 0.25)


@dataclass(slots=True)
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

    def befall(self, rng: Random, exposed: Exposure) -> tuple[Fault, ...]:
        """What befalls a request: nothing, something to its process, something on its way, or both."""
        fault: Fault | None = None
        if exposed.pauses:
            if exposed.dies and self.crash and rng.random() < self.crash:
                fault = DEATHS[rng.random() < 0.5]
            elif self.pause and rng.random() < self.pause:
                fault = PAUSES[rng.random() < 0.5]
        loss: Fault | None = None
        if self.lost and rng.random() < self.lost:
            loss = self.drawn_loss(rng, exposed)
        if fault is None:
            return () if loss is None else (loss,)
        return (fault,) if loss is None else (fault, loss)

    def drawn_loss(self, rng: Random, exposed: Exposure) -> Fault | None:
        """One of the losses that the request is exposed to."""
        if exposed.is_effect:
            return _DRAWN_LOSSES[int(rng.random() * len(_DRAWN_LOSSES))]
        return Fault.ABSENT if exposed.is_absent else None

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
        return 0.1 + rng.random() ** 3 * 200.0

    def restart_delay_s(self, rng: Random) -> float:
        return 0.2 + rng.random() ** 2 * 15.0


class Script(Chances):
    """No chance at all: exactly these faults, at the requests of these numbers, counted from 1.

    `exposures` keeps what each request of the schedule was exposed to, for whoever writes the next script.
    """

    def __init__(self, faults: Mapping[int, Fault], mortal: frozenset[str]) -> None:
        super().__init__(crash=0.0, pause=0.0, lost=0.0, rebalance_every_s=0.0, slow=0.0, mortal=mortal)
        self.faults = faults
        self.exposures: list[Exposure] = []

    def befall(self, rng: Random, exposed: Exposure) -> tuple[Fault, ...]:
        self.exposures.append(exposed)
        fault = self.faults.get(len(self.exposures))
        return (fault,) if fault is not None and fault in exposed.faults() else ()


CALM = Chances(crash=0.0, pause=0.0, lost=0.0, rebalance_every_s=0.0, slow=0.0, mortal=frozenset())
"""Nothing goes wrong."""
