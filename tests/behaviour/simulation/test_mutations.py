"""The simulation notices every hole that is torn into the protocol."""

from __future__ import annotations

import pytest

from trainyard_simulation.campaign import run_seeds
from trainyard_simulation.mutations import MUTATIONS

ENOUGH_SEEDS = 4_000
"""Within which each torn hole must show itself; most do within 200."""

SHOWN_LATE = {"any-task-starts": 1_601, "no-watchdog": 401}
"""Where the search for those begins that show themselves late, before it begins at 1."""

BROKEN_PROMISES = {
    "last-dispatched-wins": "invariant 2",
    "last-started-wins": "invariant 3",
    "conflicts-ignored": "invariant 1",
    "no-status-reread": "invariant 2",
    "no-healing": "invariant 8",
    "any-claim-trains": "invariant 3",
    "any-task-starts": "invariant 2",
    "no-waiting-after-lost": "invariant 3",
    "no-watchdog": "invariant 3",
    "no-sweep": "invariant 8",
    "no-pop-healing": "invariant 8",
    "shown-before-won": "invariant 3",
}


@pytest.fixture(params=sorted(MUTATIONS))
def mutant(request: pytest.FixtureRequest) -> tuple[str, int, tuple[str, ...]]:
    """A mutation, and the first seed that noticed it with what it said."""
    name: str = request.param
    for first in (SHOWN_LATE.get(name, 1), *range(1, ENOUGH_SEEDS, 200)):
        report = run_seeds(range(first, first + 200), name)
        if report.failures:
            return name, report.failures[0].seed, report.failures[0].messages
    pytest.fail(f"{ENOUGH_SEEDS} seeds did not notice the mutation {name}")


def test_a_hole_in_the_protocol_is_noticed_and_the_whole_protocol_passes_the_same_seed(
    mutant: tuple[str, int, tuple[str, ...]],
) -> None:
    name, seed, messages = mutant
    assert any(BROKEN_PROMISES[name] in m for m in messages)
    unmutated = run_seeds([seed])
    assert unmutated.failures == []


def test_a_mutation_is_gone_when_its_context_is() -> None:
    for mutation in MUTATIONS.values():
        before = run_seeds([160, 162]).failures
        with mutation():
            pass
        assert run_seeds([160, 162]).failures == before == []
