"""When a process that died is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
STEADY_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Restart:
    """How often in a row a process died young, and when it may start again, on the caller's clock."""

    deaths: int
    not_before_s: float


NEVER_DIED = Restart(0, 0.0)


def after_death(deaths_before: int, started_s: float, now_s: float) -> Restart:
    """At once at first, then with doubling delays; a process that ran for a while begins from the start again."""
    deaths = 1 if now_s - started_s >= STEADY_AFTER_S else deaths_before + 1
    delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(deaths - 1, 16))
    return Restart(deaths, now_s + delay_s)
