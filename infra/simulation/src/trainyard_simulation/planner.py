"""A planner under simulation: the production plan and executor, and the loop around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard_dispatcher import plan as pl
from trainyard_dispatcher.executor import Executor
from trainyard_dispatcher.intake import dead_letter
from trainyard_dispatcher.ports import NotDone, OutcomeUnknown
from trainyard_dispatcher.routing import Routing
from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable
from trainyard_schemas.events import Fact, OriginRecord, RunAccepted, make_event
from trainyard_schemas.lifecycle import Verdict
from trainyard_simulation.broker import Broker, ends_of
from trainyard_simulation.clearml import ClearML, SimulatedTasks
from trainyard_simulation.effects import Signal
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

SOURCE = "trainyard/dispatcher"
FIRST_TIMER_S = 1.0
LAST_TIMER_S = 20.0
"""Production plans every second; here the timer slows down while nothing happens, to save steps."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every planner of a world works with."""

    kernel: Kernel
    broker: Broker
    clearml: ClearML
    routing: Routing
    limits: pl.Limits
    topic_prefix: str


class Planner:
    """One incarnation. `known` lasts as long as its lead, and dies with it."""

    def __init__(self, around: Surroundings, process: Process) -> None:
        self._around = around
        self._process = process
        self._wake = Signal(around.kernel)
        self._view = around.broker.subscribe(process, self._wake)
        self._member = around.broker.lead.join(process, self._wake)
        self._known: dict[str, pl.Known] = {}
        self._busy: set[str] = set()
        self._conflicts: dict[str, RunAccepted] = {}
        self._taken_over_at: dict[int, int] = {}
        self._lead_generation = -1
        self._executor = Executor(
            SimulatedTasks(around.clearml, process),
            _Ledger(around, process),
            _DeadLetters(around),
            around.routing,
            around.topic_prefix,
            self._passes,
        )

    async def run(self) -> None:
        """Plan whenever something is new, and on a timer, while this process believes that it leads."""
        timer_s = FIRST_TIMER_S
        while True:
            self._note_conflicts()
            began = False
            if self._member.partitions:
                if self._lead_generation != self._member.generation:
                    await self._take_over()
                began = self._plan()
            timer_s = FIRST_TIMER_S if began else min(LAST_TIMER_S, timer_s * 2)
            await self._wake.wait(timer_s)

    async def _take_over(self) -> None:
        """Fold to the end as it stands now, and forget what an earlier lead had learnt."""
        around = self._around
        generation = self._member.generation
        try:
            ends = await around.broker.read("read ends", lambda: ends_of(around.broker.lifecycle))
        except LogUnavailable:
            return
        while not self._view.has_reached(ends):
            await self._wake.wait(FIRST_TIMER_S)
        self._note_conflicts()
        if self._lead_generation >= 0:
            around.kernel.coverage["planner leads again"] += 1
        self._known = {}
        self._taken_over_at = ends
        self._lead_generation = generation
        around.kernel.note(self._process.writer, f"leads, generation {generation}")

    def _plan(self) -> bool:
        if self._lead_generation != self._member.generation:
            return False
        around, view = self._around, self._view
        now = around.kernel.now
        actions: Sequence[pl.Action] = pl.plan(
            view.states.values(),
            self._known,
            self._busy,
            self._taken_over_at,
            around.routing,
            around.limits,
            now,
        )
        if self._conflicts:
            actions = [*actions, *pl.reject_conflicts(self._conflicts.values(), self._known, self._busy, now)]
        for action in actions:
            runs = action.run_ids if isinstance(action, pl.Search) else (action.run_id,)
            self._busy.update(runs)
            around.kernel.spawn(self._process, self._perform(action, runs), type(action).__name__)
        return bool(actions)

    async def _perform(self, action: pl.Action, runs: tuple[str, ...]) -> None:
        kernel, view, generation = self._around.kernel, self._view, self._lead_generation
        if not self._around.broker.lead.owns(self._process, 0):
            kernel.coverage["a planner that has lost the lead acts"] += 1
        states = {r: view.states[r] for r in runs if r in view.states}
        learnt = await self._executor.perform(action, states, self._known, lambda: kernel.now)
        if generation == self._lead_generation:
            self._known.update(learnt)
        self._busy.difference_update(runs)
        self._wake.set()

    def _note_conflicts(self) -> None:
        for folded in self._view.news:
            if folded.step.verdict is Verdict.CONFLICT and isinstance(folded.event.fact, RunAccepted):
                self._conflicts[pl.conflict_answer(folded.event.fact).run_id] = folded.event.fact
        self._view.news.clear()
        for run_id in [r for r in self._conflicts if r in self._view.states]:
            del self._conflicts[run_id]

    def _passes(self, window: str) -> None:
        self._around.kernel.coverage[f"window {window}"] += 1


class _Ledger:
    def __init__(self, around: Surroundings, process: Process) -> None:
        self._around = around
        self._process = process

    async def append(self, fact: Fact) -> None:
        around = self._around
        event = make_event(fact, source=SOURCE, writer=self._process.writer, now=around.kernel.now)
        try:
            await around.broker.append_event(event)
        except AppendUnknown as error:
            raise OutcomeUnknown(str(error)) from error
        except LogUnavailable as error:
            raise NotDone(str(error)) from error


class _DeadLetters:
    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def put(self, origin: OriginRecord, run_id: str, reason: str, detail: str, message: str) -> None:
        broker = self._around.broker
        try:
            record = await broker.read("read origin", lambda: broker.requested[origin.partition][origin.offset])
            await broker.append_dead_letter(dead_letter(record, run_id, reason, detail, message))
        except AppendUnknown as error:
            raise OutcomeUnknown(str(error)) from error
        except LogUnavailable as error:
            raise NotDone(str(error)) from error
