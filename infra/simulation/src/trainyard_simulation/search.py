"""Bounded exhaustive search: one run, and every fault at every request, alone or together with every later one.

Chance finds what happens often; this shows that nothing within the bound was left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trainyard_simulation.faults import Exposure, Fault, Script
from trainyard_simulation.kernel import StuckError
from trainyard_simulation.processes import ProgramError
from trainyard_simulation.world import MORTAL, World


@dataclass(frozen=True, slots=True)
class Placement:
    """One schedule of the search: which fault stood at which request (counted from 1), and what broke."""

    seed: int
    faults: Mapping[int, Fault]
    messages: tuple[str, ...]

    def __str__(self) -> str:
        where = ", ".join(f"{fault.value} at request {number}" for number, fault in self.faults.items())
        return f"seed {self.seed}, {where or 'no fault'}: {'; '.join(self.messages) or 'all promises kept'}"


def search(seed: int, depth: int) -> Iterator[Placement]:
    """Every placement of up to `depth` faults in the world of `seed`, the one without any first."""
    yield from _explore(seed, {}, depth)


def search_below(seed: int, first: int, depth: int) -> Iterator[Placement]:
    """The part of `search` whose first fault stands at request `first`: to share the work among processes."""
    for fault in exposures(seed)[first - 1].faults():
        yield from _explore(seed, {first: fault}, depth - 1)


def exposures(seed: int) -> list[Exposure]:
    """What each request of the world of `seed` is exposed to where nothing goes wrong."""
    return _run(seed, {})[1]


def _explore(seed: int, faults: dict[int, Fault], depth: int) -> Iterator[Placement]:
    messages, met = _run(seed, faults)
    yield Placement(seed, dict(faults), messages)
    if depth == 0:
        return
    for number in range(max(faults, default=0) + 1, len(met) + 1):
        for fault in met[number - 1].faults():
            yield from _explore(seed, faults | {number: fault}, depth - 1)


def _run(seed: int, faults: Mapping[int, Fault]) -> tuple[tuple[str, ...], list[Exposure]]:
    script = Script(faults, MORTAL)
    try:
        result = World(seed, script=script).run()
    except (ProgramError, StuckError) as error:
        return (str(error),), script.exposures
    return tuple(str(v) for v in result.violations), script.exposures
