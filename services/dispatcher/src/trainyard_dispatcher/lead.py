"""One planner's lead, from taking over to losing it: what it has learnt meanwhile, and what it decides.

No clock, no I/O. The loop that owns it, real or simulated, performs the actions, never two for one run, and brings the
surveys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from trainyard_dispatcher import surveying
from trainyard_dispatcher.actions import Action, runs_of
from trainyard_dispatcher.known import NOTHING_KNOWN, Known, Limits
from trainyard_dispatcher.plan import plan, reject_conflicts
from trainyard_dispatcher.ports import Survey
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.surveying import Asked
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas.events import RunAccepted
from trainyard_schemas.lifecycle import RunState


class Lead:
    """What is learnt of ClearML dies with the lead; the vigil is the process's own and outlives it."""

    def __init__(self, taken_over_at: Mapping[int, int], routing: Routing, limits: Limits, vigil: Vigil) -> None:
        """`taken_over_at` maps each partition to its end when the lead began."""
        self._taken_over_at = taken_over_at
        self._routing = routing
        self._limits = limits
        self._vigil = vigil
        self._survey: Survey | None = None
        self._absent_clones: dict[str, float] = {}
        self.known: dict[str, Known] = {}
        self.busy: set[str] = set()

    def actions(
        self,
        states: Mapping[str, RunState],
        conflicts: Mapping[str, RunAccepted],
        state_of: Callable[[str], RunState | None],
        now: float,
        steady: float,
    ) -> list[Action]:
        """What to do now, in the order in which it should begin. `begin` those that are begun.

        `states` are the runs in memory, `state_of` finds any run. What a survey showed to be litter is named once: the
        next survey shows it again.
        """
        self._vigil.observe(states.values(), steady)
        chosen = plan(
            states.values(),
            self.known,
            self.busy,
            self._taken_over_at,
            self._routing,
            self._limits,
            self._vigil,
            now,
            steady,
        )
        chosen += reject_conflicts(conflicts.values(), self.known, self.busy, now)
        survey, self._survey = self._survey, None
        if survey is not None:
            lost = {t for t, since in self._absent_clones.items() if steady - since >= self._limits.pop_grace_s}
            taken = self.busy | {run for action in chosen for run in runs_of(action)}
            chosen += [
                action
                for action in surveying.sweep(survey, lost, state_of, self._limits, now)
                if taken.isdisjoint(runs_of(action))
            ]
        return chosen

    def begin(self, action: Action) -> None:
        """The action is under way."""
        self.busy.update(runs_of(action))

    def ended(self, action: Action, learnt: Mapping[str, Known]) -> None:
        """The action has ended, and this is what is known now."""
        self.busy.difference_update(runs_of(action))
        self.known.update(learnt)

    def failed(self, action: Action, again_at: float) -> None:
        """The action met an error of our own: leave its runs alone until `again_at`, and look before acting then."""
        learnt = {r: self.known.get(r, NOTHING_KNOWN) for r in runs_of(action)}
        self.ended(action, {r: replace(k, retry_at=again_at, must_search=True) for r, k in learnt.items()})

    def to_ask(self, states: Mapping[str, RunState]) -> tuple[Asked, ...]:
        """What the next survey should look at."""
        return surveying.to_ask(states)

    def surveyed(self, asked: tuple[Asked, ...], survey: Survey, steady: float) -> None:
        """Learn from a survey that was sent at `steady`. Runs whose action is under way know better themselves."""
        learnt = surveying.learn(asked, survey, self.known, steady)
        self.known.update({run_id: known for run_id, known in learnt.items() if run_id not in self.busy})
        self._absent_clones = surveying.absent_clones(survey, self._absent_clones, steady)
        self._survey = survey

    def forget_gone(self, states: Mapping[str, RunState], conflicts: Mapping[str, RunAccepted]) -> None:
        """Let go of what is known of runs that left memory."""
        if len(self.known) > 2 * (len(states) + len(conflicts)) + 100:
            self.known = {r: k for r, k in self.known.items() if r in states or r in conflicts}
