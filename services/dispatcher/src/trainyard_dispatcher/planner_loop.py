"""The planner's loop: while this process has the lead it plans whenever something is new, and acts.

`Lead` decides and `Executor` acts; here are only the clocks and the concurrency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from trainyard_dispatcher.actions import Action, runs_of
from trainyard_dispatcher.executor import Executor
from trainyard_dispatcher.known import Known
from trainyard_dispatcher.lead import Lead
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_dispatcher.ports import NotDone, OutcomeUnknown, Refused, Survey
from trainyard_dispatcher.run_index import RunIndex
from trainyard_runtime.clock import steady as steady_clock
from trainyard_runtime.kafka.records import LogError
from trainyard_runtime.logs import get_logger
from trainyard_schemas.lifecycle import RunState

TIMER_S = 1.0
"""Plans at least this often: retries, pauses and graces come due without any new record."""

MAX_INTERNAL_ERRORS = 20
"""So many actions in a row that failed on errors of our own end the process, loudly."""

INTERNAL_ERROR_PAUSE_S = 30.0
_MAX_PLANNING_SHARE = 0.3
_RETRY_TAKE_OVER_S = 1.0


class PlannerLoop:
    """One process's planner: a hot standby until `lead(True)`.

    Losing the lead stops new actions; those under way end by themselves, and the fold ignores what came too late.
    What a lead has learnt of ClearML dies with it.
    """

    def __init__(
        self,
        index: RunIndex,
        executor: Executor,
        new_lead: Callable[[Mapping[int, int]], Lead],
        metrics: DispatcherMetrics,
        *,
        ends: Callable[[], Awaitable[Mapping[int, int]]],
        survey: Callable[[Sequence[str]], Awaitable[Survey]],
        survey_every_s: float,
        concurrency: int,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_clock,
    ) -> None:
        """`new_lead` makes a lead from the partitions' ends at its beginning, `ends` gives these ends now, `survey`
        looks at ClearML; `now` is wall-clock seconds, `steady` seconds on the steady clock."""
        self._index = index
        self._executor = executor
        self._new_lead = new_lead
        self._metrics = metrics
        self._ends = ends
        self._survey = survey
        self._survey_every_s = survey_every_s
        self._concurrency = concurrency
        self._now = now
        self._steady = steady
        self._wake = asyncio.Event()
        self._elected = False
        self._generation = 0
        self._lead: Lead | None = None
        self._acting: set[asyncio.Task[None]] = set()
        self._internal_errors = 0
        self._log = get_logger(component="planner")

    @property
    def leads(self) -> bool:
        """True where this process plans now."""
        return self._elected and self._lead is not None

    def wake(self) -> None:
        """Something is new: plan soon."""
        self._wake.set()

    def lead(self, elected: bool) -> None:
        """The election's outcome, after every rebalance."""
        if elected and not self._elected:
            self._generation += 1
            self._lead = None
        if elected != self._elected:
            self._log.info("lead gained" if elected else "lead lost", action="lead", generation=self._generation)
        self._elected = elected
        self._metrics.lead.set(1 if elected else 0)
        self.wake()

    async def run(self) -> None:
        """Plan and act until cancelled. Errors of our own stop the loop only when they come in a row."""
        surveying = asyncio.create_task(self._survey_for_ever(), name="survey")
        try:
            while True:
                await self._wait()
                for task in [task for task in (*self._acting, surveying) if task.done()]:
                    self._acting.discard(task)
                    task.result()
                if self._elected and self._lead is None:
                    await self._take_over()
                if self._elected and self._lead is not None:
                    began = time.perf_counter()
                    self._plan(self._lead)
                    planning_s = time.perf_counter() - began
                    self._metrics.plan_s.observe(planning_s)
                    await asyncio.sleep(planning_s * (1 / _MAX_PLANNING_SHARE - 1))
        finally:
            for task in (*self._acting, surveying):
                task.cancel()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(TIMER_S):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _take_over(self) -> None:
        """Fold to the log's end as it stands now; what stands before it may be another planner's unfinished work."""
        generation = self._generation
        try:
            ends = await self._ends()
        except LogError as error:
            self._log.warning("the log's end is not known yet", action="take_over", error=str(error))
            await asyncio.sleep(_RETRY_TAKE_OVER_S)
            self.wake()
            return
        await self._index.reached(ends)
        if generation != self._generation or not self._elected:
            return
        self._lead = self._new_lead(ends)
        self._log.info("leads", action="take_over", generation=generation, open_runs=len(self._index.states))

    async def _survey_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._survey_every_s)
            lead = self._lead
            if lead is None or not self._elected:
                continue
            asked, sent_at = lead.to_ask(self._index.states), self._steady()
            try:
                survey = await self._survey([one.task_id for one in asked])
            except (NotDone, OutcomeUnknown, Refused) as error:
                self._log.warning("ClearML could not be surveyed", action="survey", error=str(error))
                continue
            self._metrics.surveys.inc()
            lead.surveyed(asked, survey, sent_at)
            self.wake()

    def _plan(self, lead: Lead) -> None:
        index = self._index
        lead.forget_gone(index.states, index.conflicts)
        actions = lead.actions(index.states, index.conflicts, index.state_of, self._now(), self._steady())
        for action in actions[: max(0, self._concurrency - len(self._acting))]:
            states = {run_id: index.states[run_id] for run_id in runs_of(action) if run_id in index.states}
            lead.begin(action)
            self._acting.add(asyncio.create_task(self._perform(lead, action, states)))
        self._metrics.actions_under_way.set(len(self._acting))

    async def _perform(self, lead: Lead, action: Action, states: Mapping[str, RunState]) -> None:
        """`states` are those that the action was planned on: a run may have ended since."""
        name, runs = type(action).__name__, runs_of(action)
        began = time.perf_counter()
        learnt: Mapping[str, Known] = {}
        try:
            learnt = await self._executor.perform(action, states, lead.known, self._now)
            self._internal_errors = 0
            lead.ended(action, learnt)
        except Exception as error:
            self._internal_errors += 1
            self._log.error("an action failed on an error of ours", action=name, runs=runs, exc_info=error)
            if self._internal_errors >= MAX_INTERNAL_ERRORS:
                raise
            lead.failed(action, self._now() + INTERNAL_ERROR_PAUSE_S)
        finally:
            self._metrics.actions.labels(name).observe(time.perf_counter() - began)
            self.wake()
        for run_id, known in learnt.items():
            if known.failures or known.refused is not None:
                self._log.warning(
                    "action did not succeed",
                    action=name,
                    run_id=run_id,
                    failures=known.failures,
                    refused=known.refused,
                )
