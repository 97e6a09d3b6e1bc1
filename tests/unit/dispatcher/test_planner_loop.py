"""The planner's loop: who leads, what is forgotten, and what one run's trouble does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.dispatcher.test_run_index import Log, accepted
from trainyard_dispatcher import planner_loop
from trainyard_dispatcher.actions import Action, Create, runs_of
from trainyard_dispatcher.known import Known, Limits
from trainyard_dispatcher.lead import Lead
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_dispatcher.planner_loop import MAX_INTERNAL_ERRORS, PlannerLoop
from trainyard_dispatcher.ports import NotDone, Survey
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.run_index import RunIndex
from trainyard_dispatcher.vigil import Vigil
from trainyard_runtime.kafka.records import LogUnavailable
from trainyard_runtime.projection import Projection
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason

ROUTING = Routing({}, {"cpu": "cpu"}, "default", {})


class Recorder:
    """An executor that notes its actions; `fail_on` are runs on which our own code breaks."""

    def __init__(self, fail_on: frozenset[str] = frozenset()) -> None:
        self.actions: list[Action] = []
        self.planned_on: list[Mapping[str, RunState]] = []
        self.fail_on = fail_on
        self.under_way = self.most_under_way = 0

    async def perform(
        self, action: Action, states: Mapping[str, RunState], known: Mapping[str, Known], clock: Callable[[], float]
    ) -> dict[str, Known]:
        self.actions.append(action)
        self.planned_on.append(states)
        runs = runs_of(action)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        if self.fail_on.intersection(runs):
            raise ZeroDivisionError
        return {r: Known(attempt=1, searched=True, retry_at=clock() + 1_000) for r in runs}


class Scene:
    """An index with runs, and a loop over it."""

    def __init__(self, folder: Path, runs: int, executor: Recorder, ends: Callable[[], Any] | None = None) -> None:
        self.log = Log()
        self.surveys = 0
        self.facts = [accepted(offset=number) for number in range(runs)]
        for fact in self.facts:
            self.log.add(fact)
        self.index = RunIndex(
            Projection(folder / "p.sqlite", identity="one"),
            "t.runs.lifecycle",
            requests="t.runs.requested",
        )
        self.index.load({0: 0}, {0: runs})
        self.executor = executor

        async def log_ends() -> Mapping[int, int]:
            found: Mapping[int, int] = ends() if ends is not None else {0: 0}
            return found

        self.loop = PlannerLoop(
            self.index,
            executor,  # type: ignore[arg-type]
            lambda ends: Lead(ends, ROUTING, Limits(max_queue_depth=1_000), Vigil()),
            DispatcherMetrics(),
            ends=log_ends,
            survey=self.survey,
            survey_every_s=0.02,
            concurrency=4,
        )

    async def survey(self, task_ids: Sequence[str]) -> Survey:
        """ClearML, which is away at first and empty then."""
        self.surveys += 1
        if self.surveys < 3:
            raise NotDone("away")
        return Survey({}, (), frozenset())


async def _run_until(scene: Scene, condition: Callable[[], bool]) -> None:
    running = asyncio.create_task(scene.loop.run())
    try:
        async with asyncio.timeout(20):
            while not condition() and not running.done():  # noqa: ASYNC110 - it waits for whatever the test looks at
                await asyncio.sleep(0.005)
        if running.done():
            running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_standby_does_nothing_and_a_leader_acts_within_its_bound(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, 20, Recorder())
        scene.index.fold(scene.log.records)
        scene.loop.wake()
        await _run_until(scene, lambda: bool(scene.executor.actions) or not scene.loop._wake.is_set())
        assert scene.executor.actions == []
        assert not scene.loop.leads
        scene.loop.lead(True)
        await _run_until(scene, lambda: len(scene.executor.actions) >= 20)
        assert {a.run_id for a in scene.executor.actions if isinstance(a, Create)} == {f.run_id for f in scene.facts}
        assert scene.executor.most_under_way == 4

    asyncio.run(scenario())


class Overtaken(Lead):
    """A lead whose runs are ended by somebody else as soon as an action on them is planned."""

    end: Callable[[str], None]

    def begin(self, action: Action) -> None:
        super().begin(action)
        for run_id in runs_of(action):
            self.end(run_id)


def test_a_run_that_ends_between_plan_and_act_is_acted_on_as_it_was_planned(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, 1, Recorder())

        texts = dict.fromkeys(("run_name", "project", "trainer", "accepted_at", "ended_at"), "text")

        def end(run_id: str) -> None:
            ended = ev.RunCancelled.model_validate(texts | {"run_id": run_id, "attempt": 0, "reason": Reason.USER})
            scene.index.fold([scene.log.add(ended)])

        lead = Overtaken({0: 0}, ROUTING, Limits(max_queue_depth=1_000), Vigil())
        lead.end = end
        scene.loop._new_lead = lambda _: lead
        scene.index.fold(scene.log.records)
        scene.loop.lead(True)
        await _run_until(scene, lambda: bool(scene.executor.planned_on))
        assert scene.index.states == {}
        assert [set(states) for states in scene.executor.planned_on] == [{scene.facts[0].run_id}]

    asyncio.run(scenario())


def test_a_leader_surveys_clearml_again_after_it_was_away_and_a_standby_does_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, 0, Recorder())
        running = asyncio.create_task(scene.loop.run())
        await asyncio.sleep(0.1)
        assert scene.surveys == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        scene.loop.lead(True)
        await _run_until(scene, lambda: scene.surveys >= 5)

    asyncio.run(scenario())


def test_the_lead_begins_only_when_the_fold_has_reached_the_logs_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, 3, Recorder(), ends=lambda: {0: 3})
        scene.index.fold(scene.log.records[:2])
        scene.loop.lead(True)
        running = asyncio.create_task(scene.loop.run())
        await asyncio.sleep(0.1)
        assert (scene.executor.actions, scene.loop.leads) == ([], False)
        scene.index.fold(scene.log.records)
        async with asyncio.timeout(10):
            while not scene.executor.actions:  # noqa: ASYNC110 - it waits for whatever the test looks at
                await asyncio.sleep(0.005)
        assert scene.loop.leads
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_a_log_that_is_away_at_the_take_over_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_loop, "_RETRY_TAKE_OVER_S", 0.01)
    asked = []

    def ends() -> Mapping[int, int]:
        asked.append(1)
        if len(asked) < 3:
            raise LogUnavailable("away")
        return {0: 0}

    async def scenario() -> None:
        scene = Scene(tmp_path, 1, Recorder(), ends=ends)
        scene.index.fold(scene.log.records)
        scene.loop.lead(True)
        await _run_until(scene, lambda: bool(scene.executor.actions))
        assert len(asked) == 3

    asyncio.run(scenario())


def test_one_run_that_our_code_fails_on_does_not_stop_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, 10, Recorder())
        bad = scene.facts[0].run_id
        scene.executor.fail_on = frozenset({bad})
        scene.index.fold(scene.log.records)
        scene.loop.lead(True)
        await _run_until(scene, lambda: len(scene.executor.actions) >= 10)
        acted = [a.run_id for a in scene.executor.actions if isinstance(a, Create)]
        assert set(acted) == {f.run_id for f in scene.facts}
        assert acted.count(bad) == 1

    asyncio.run(scenario())


def test_errors_of_our_own_in_a_row_end_the_loop(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, MAX_INTERNAL_ERRORS + 5, Recorder())
        scene.executor.fail_on = frozenset(fact.run_id for fact in scene.facts)
        scene.index.fold(scene.log.records)
        scene.loop.lead(True)
        with pytest.raises(ZeroDivisionError):
            await _run_until(scene, lambda: False)
        assert len(scene.executor.actions) <= MAX_INTERNAL_ERRORS + 4

    asyncio.run(scenario())
