"""A planner under simulation: the production lead, vigil and executor, and the loops around them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from trainyard_dispatcher.actions import Action, runs_of
from trainyard_dispatcher.executor import Executor
from trainyard_dispatcher.intake import dead_letter
from trainyard_dispatcher.known import Limits
from trainyard_dispatcher.lead import Lead
from trainyard_dispatcher.ports import NotDone, OutcomeUnknown
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.run_ends import conflict_answer
from trainyard_dispatcher.vigil import Vigil
from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable
from trainyard_schemas.events import AttemptStarted, Fact, OriginRecord, RunAccepted, make_event
from trainyard_schemas.lifecycle import Verdict
from trainyard_schemas.vocabulary import RunPhase
from trainyard_simulation.broker import Broker, ends_of
from trainyard_simulation.clearml import ClearML, SimulatedTasks
from trainyard_simulation.effects import IDLE_S, Signal, Sleep
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

SOURCE = "trainyard/dispatcher"
FIRST_TIMER_S = 1.0
LAST_TIMER_S = 20.0
SURVEY_EVERY_S = 10.0
PROVE_EVERY_S = 4.0
"""Production plans every second; here the timer slows down while nothing happens, to save steps."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every planner of a world works with."""

    kernel: Kernel
    broker: Broker
    clearml: ClearML
    routing: Routing
    limits: Limits
    topic_prefix: str


class Planner:
    """One incarnation. `known` lasts as long as its lead, and dies with it."""

    def __init__(self, around: Surroundings, process: Process) -> None:
        self._around = around
        self._process = process
        self._wake = Signal(around.kernel)
        self._begun = Signal(around.kernel)
        self._view = around.broker.subscribe(process, self._wake)
        self._member = around.broker.lead.join(process, self._wake)
        self._conflicts: dict[str, RunAccepted] = {}
        self._vigil = Vigil()
        self._lead: Lead | None = None
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
        kernel = self._around.kernel
        kernel.spawn(self._process, self._survey(), "survey")
        kernel.spawn(self._process, self._listen(), "listen")
        timer_s = FIRST_TIMER_S
        while True:
            self._take_news()
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
        self._take_news()
        if self._lead is not None:
            around.kernel.coverage["planner leads again"] += 1
        self._lead = Lead(ends, around.routing, around.limits, self._vigil)
        self._lead_generation = generation
        around.kernel.note(self._process.writer, f"leads, generation {generation}")

    def _leads(self) -> Lead | None:
        is_current = bool(self._member.partitions) and self._lead_generation == self._member.generation
        return self._lead if is_current else None

    def _plan(self) -> bool:
        lead, around, view = self._leads(), self._around, self._view
        if lead is None:
            return False
        now = around.kernel.now
        open_runs = {r: s for r, s in view.states.items() if not s.is_ended}
        actions = lead.actions(open_runs, self._conflicts, view.states.get, now, now)
        for action in actions:
            lead.begin(action)
            around.kernel.spawn(self._process, self._perform(lead, action), type(action).__name__)
        return bool(actions)

    async def _perform(self, lead: Lead, action: Action) -> None:
        kernel, view = self._around.kernel, self._view
        if not self._around.broker.lead.owns(self._process, 0):
            kernel.coverage["a planner that has lost the lead acts"] += 1
        kernel.coverage[f"action {type(action).__name__}"] += 1
        states = {r: view.states[r] for r in runs_of(action) if r in view.states}
        lead.ended(action, await self._executor.perform(action, states, lead.known, lambda: kernel.now))
        self._wake.set()

    async def _survey(self) -> None:
        around = self._around
        tasks = SimulatedTasks(around.clearml, self._process)
        while True:
            await Sleep(SURVEY_EVERY_S)
            lead = self._leads()
            if lead is None:
                continue
            asked, sent_at = lead.to_ask(self._view.states), around.kernel.now
            try:
                survey = await tasks.survey([one.task_id for one in asked])
            except NotDone:
                continue
            lead.surveyed(asked, survey, sent_at)
            self._wake.set()

    async def _listen(self) -> None:
        """Hear the heartbeats, and prove that they were read to their end, while anybody trains."""
        broker, kernel = self._around.broker, self._around.kernel
        position = len(broker.heartbeats)
        while True:
            if not any(state.phase is RunPhase.STARTED for state in self._view.states.values()):
                await self._begun.wait(IDLE_S)
                continue
            await Sleep(PROVE_EVERY_S)
            sent_at, start = kernel.now, position
            try:
                heard: list[str] = await broker.read("read heartbeats", partial(_after, broker.heartbeats, start))
            except LogUnavailable:
                continue
            position += len(heard)
            for claim in heard:
                self._vigil.heard(claim, kernel.now)
            self._vigil.read_to_end(sent_at)

    def _take_news(self) -> None:
        for folded in self._view.news:
            fact = folded.event.fact
            if isinstance(fact, AttemptStarted):
                self._begun.set()
            elif folded.step.verdict is Verdict.CONFLICT and isinstance(fact, RunAccepted):
                self._conflicts[conflict_answer(fact).run_id] = fact
        self._view.news.clear()
        for run_id in [r for r in self._conflicts if r in self._view.states]:
            del self._conflicts[run_id]

    def _passes(self, window: str) -> None:
        self._around.kernel.coverage[f"window {window}"] += 1


def _after(heartbeats: list[str], position: int) -> list[str]:
    return heartbeats[position:]


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
