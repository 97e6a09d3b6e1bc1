"""The planner's loop: while this process has the lead it plans whenever something is new, and acts.

`plan` decides and `Executor` acts; here are only the clock, the concurrency and what one lead has learnt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from trainyard_dispatcher import plan as pl
from trainyard_dispatcher.executor import Executor
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_dispatcher.plan import Action, Known, Limits
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.run_index import RunIndex
from trainyard_runtime.kafka.records import LogError
from trainyard_runtime.logs import get_logger

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
        routing: Routing,
        limits: Limits,
        metrics: DispatcherMetrics,
        *,
        ends: Callable[[], Awaitable[Mapping[int, int]]],
        concurrency: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`ends` gives the ends of `runs.lifecycle`'s partitions now; `now` is wall-clock seconds."""
        self._index = index
        self._executor = executor
        self._routing = routing
        self._limits = limits
        self._metrics = metrics
        self._ends = ends
        self._concurrency = concurrency
        self._now = now
        self._wake = asyncio.Event()
        self._elected = False
        self._generation = 0
        self._taken_over: Mapping[int, int] | None = None
        self._known: dict[str, Known] = {}
        self._busy: set[str] = set()
        self._acting: set[asyncio.Task[None]] = set()
        self._internal_errors = 0
        self._log = get_logger(component="planner")

    @property
    def leads(self) -> bool:
        """True where this process plans now."""
        return self._elected and self._taken_over is not None

    def wake(self) -> None:
        """Something is new: plan soon."""
        self._wake.set()

    def lead(self, elected: bool) -> None:
        """The election's outcome, after every rebalance."""
        if elected and not self._elected:
            self._generation += 1
            self._taken_over = None
        if elected != self._elected:
            self._log.info("lead gained" if elected else "lead lost", action="lead", generation=self._generation)
        self._elected = elected
        self._metrics.lead.set(1 if elected else 0)
        self.wake()

    async def run(self) -> None:
        """Plan and act until cancelled. Errors of our own stop the loop only when they come in a row."""
        try:
            while True:
                await self._wait()
                self._index.release_old()
                for task in [task for task in self._acting if task.done()]:
                    self._acting.discard(task)
                    task.result()
                if self._elected and self._taken_over is None:
                    await self._take_over()
                if self.leads:
                    began = time.perf_counter()
                    self._plan()
                    planning_s = time.perf_counter() - began
                    self._metrics.plan_s.observe(planning_s)
                    await asyncio.sleep(planning_s * (1 / _MAX_PLANNING_SHARE - 1))
        finally:
            for task in self._acting:
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
        self._known = {}
        self._taken_over = ends
        self._log.info("leads", action="take_over", generation=generation, open_runs=len(self._index.states))

    def _plan(self) -> None:
        assert self._taken_over is not None
        now = self._now()
        self._forget_gone()
        actions: list[Action] = pl.plan(
            self._index.states.values(),
            self._known,
            self._busy,
            self._taken_over,
            self._routing,
            self._limits,
            now,
        )
        actions += pl.reject_conflicts(self._index.conflicts.values(), self._known, self._busy, now)
        for action in actions[: max(0, self._concurrency - len(self._acting))]:
            runs = action.run_ids if isinstance(action, pl.Search) else (action.run_id,)
            self._busy.update(runs)
            self._acting.add(asyncio.create_task(self._perform(action, runs)))
        self._metrics.actions_under_way.set(len(self._acting))

    async def _perform(self, action: Action, runs: tuple[str, ...]) -> None:
        generation = self._generation
        name = type(action).__name__
        states = {run_id: state for run_id in runs if (state := self._index.states.get(run_id)) is not None}
        began = time.perf_counter()
        try:
            learnt = await self._executor.perform(action, states, self._known, self._now)
            self._internal_errors = 0
        except Exception as error:
            self._internal_errors += 1
            self._log.error("an action failed on an error of ours", action=name, runs=runs, exc_info=error)
            if self._internal_errors >= MAX_INTERNAL_ERRORS:
                raise
            later = self._now() + INTERNAL_ERROR_PAUSE_S
            learnt = {r: replace(self._known.get(r, pl.NOTHING_KNOWN), retry_at=later, must_search=True) for r in runs}
        finally:
            self._busy.difference_update(runs)
            self._metrics.actions.labels(name).observe(time.perf_counter() - began)
            self.wake()
        if generation == self._generation:
            self._known.update(learnt)
        for run_id, known in learnt.items():
            if known.failures or known.refused is not None:
                self._log.warning(
                    "action did not succeed",
                    action=name,
                    run_id=run_id,
                    failures=known.failures,
                    refused=known.refused,
                )

    def _forget_gone(self) -> None:
        """Let go of runs whose end is also ClearML's, and of what is known of runs that are gone."""
        states = self._index.states
        for run_id in [r for r, k in self._known.items() if k.closed and r in states and states[r].is_ended]:
            self._index.release(run_id)
        if len(self._known) > 2 * (len(states) + len(self._index.conflicts)) + 100:
            self._known = {r: k for r, k in self._known.items() if r in states or r in self._index.conflicts}
