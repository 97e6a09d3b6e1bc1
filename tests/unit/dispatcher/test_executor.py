"""What the executor does through its ports, and what it knows afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.dispatcher.runs import ROUTING, accepted, dispatched, state_after
from trainyard_dispatcher import actions as act
from trainyard_dispatcher.executor import Executor
from trainyard_dispatcher.known import Known
from trainyard_dispatcher.plan import reject_conflicts
from trainyard_dispatcher.ports import FoundTask, NotDone, OutcomeUnknown, Refused, Survey, TaskStatus
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState

NOW = 50.0


@dataclass
class World:
    """ClearML, the log and the dead letters at the ports; `fails` raises an error in place of a call."""

    fails: dict[str, Exception] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    found: Sequence[FoundTask] = ()
    now_status: TaskStatus = TaskStatus.CREATED
    windows: list[str] = field(default_factory=list)
    why_not_adoptable: str | None = None

    def _call(self, name: str, argument: Any) -> None:
        self.calls.append((name, argument))
        if name in self.fails:
            raise self.fails[name]

    async def queue_id(self, name: str) -> str:
        self._call("queue_id", name)
        return f"q-{name}"

    async def create(self, project: str, body: Mapping[str, Any]) -> str:
        self._call("create", (project, body))
        return "task-new"

    async def enqueue(self, task_id: str, queue_id: str) -> None:
        self._call("enqueue", (task_id, queue_id))

    async def status(self, task_id: str) -> TaskStatus:
        self._call("status", task_id)
        return self.now_status

    async def find(self, run_ids: Sequence[str]) -> Sequence[FoundTask]:
        self._call("find", run_ids)
        return self.found

    async def close(self, task_id: str, was: TaskStatus, status: TaskStatus, message: str) -> None:
        self._call("close", (task_id, was, status))

    async def reveal_model(self, model_id: str) -> None:
        self._call("reveal_model", model_id)

    async def delete_model(self, model_id: str) -> None:
        self._call("delete_model", model_id)

    async def reset(self, task_id: str) -> None:
        self._call("reset", task_id)

    async def restart(self, task_id: str) -> None:
        self._call("restart", task_id)

    async def delete(self, task_id: str) -> None:
        self._call("delete", task_id)

    async def adoptable(self, task_id: str) -> str | None:
        self._call("adoptable", task_id)
        return self.why_not_adoptable

    async def survey(self, task_ids: Sequence[str]) -> Survey:
        raise AssertionError("the executor does not survey")

    async def append(self, fact: ev.Fact) -> None:
        self._call("append", fact)

    async def put(self, origin: ev.OriginRecord, run_id: str, reason: str, detail: str, message: str) -> None:
        self._call("put", run_id)


def _perform(world: World, action: act.Action, state: RunState | None, known: Known | None = None) -> Known:
    executor = Executor(world, world, world, ROUTING, "trainyard.", world.windows.append)
    states = {} if state is None else {state.run_id: state}
    run_id = action.run_ids[0] if isinstance(action, act.Search) else action.run_id
    before = {} if known is None else {run_id: known}
    return asyncio.run(executor.perform(action, states, before, lambda: NOW))[run_id]


def test_a_task_is_created_in_one_call_with_everything_in_it() -> None:
    world = World()
    state = state_after(accepted(tags=["mine"], project="Wines"))
    known = _perform(world, act.Create(state.run_id, 1, "cpu"), state)
    assert [name for name, _ in world.calls] == ["queue_id", "create"]
    project, body = world.calls[1][1]
    assert project == "Wines"
    assert body["name"] == "wine-run"
    assert body["tags"] == ["automl", "trainer:sklearn", "schema:v2", "mine"]
    assert body["container"] == {"image": "f3.sklearn-trainer:latest", "arguments": ""}
    assert body["script"]["entry_point"] == "-m trainyard_trainer_worker.agent_body"
    assert body["script"]["requirements"] == {"pip": ""}
    run = {name: item["value"] for name, item in body["hyperparams"]["Run"].items()}
    assert (run["run_id"], run["attempt"], run["accepted_offset"]) == (state.run_id, "1", "0")
    assert body["hyperparams"]["Dataset"]["label"]["value"] == "target"
    assert known == Known(attempt=1, task_id="task-new", status=TaskStatus.CREATED)
    assert world.windows == ["D1", "D2"]


def test_a_task_says_in_which_version_its_request_was_sent() -> None:
    world = World()
    state = state_after(accepted().model_copy(update={"original_schema_version": 1}))
    _perform(world, act.Create(state.run_id, 1, "cpu"), state)
    _, body = world.calls[1][1]
    assert "schema:v1" in body["tags"]
    assert "schema:v2" not in body["tags"]
    assert body["hyperparams"]["Run"]["schema_version"]["value"] == "1"


def test_an_unknown_queue_is_refused_before_a_task_is_made() -> None:
    world = World(fails={"queue_id": Refused("unknown_queue", "there is no queue 'typo'")})
    state = state_after(accepted(queue="typo"))
    known = _perform(world, act.Create(state.run_id, 1, "typo"), state)
    assert known.refused == ("unknown_queue", "there is no queue 'typo'")
    assert [name for name, _ in world.calls] == ["queue_id"]


def test_after_an_unknown_create_the_planner_must_look_first() -> None:
    state = state_after(accepted())
    known = _perform(World(fails={"create": OutcomeUnknown()}), act.Create(state.run_id, 1, "cpu"), state)
    assert known.must_search
    assert known.retry_at > NOW
    world = World(
        found=[FoundTask("b", state.run_id, 1, TaskStatus.CREATED), FoundTask("a", state.run_id, 2, TaskStatus.CREATED)]
    )
    found = _perform(world, act.Search((state.run_id,)), state, known)
    assert (found.task_id, found.attempt, found.searched, found.must_search) == ("b", 1, True, False)
    assert found.status is None, "a task that was found may have been enqueued by another planner"


def test_after_an_unknown_enqueue_the_status_is_read_again() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    mine = Known(attempt=1, task_id="task-1", status=TaskStatus.CREATED)
    enqueue = act.Enqueue(state.run_id, "task-1", "q-cpu")
    assert _perform(World(fails={"enqueue": OutcomeUnknown()}), enqueue, state, mine).status is None
    assert _perform(World(fails={"enqueue": Refused("wrong_status", "it runs")}), enqueue, state, mine).status is None
    missing = _perform(World(fails={"enqueue": Refused("no_such_task", "gone")}), enqueue, state, mine)
    assert missing.status is TaskStatus.MISSING
    assert _perform(World(), enqueue, state, mine).status is TaskStatus.QUEUED


def test_a_call_that_was_not_done_is_tried_again_after_a_growing_pause() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    world = World(fails={"status": NotDone()})
    once = _perform(world, act.ReadStatus(state.run_id, "task-1"), state)
    twice = _perform(world, act.ReadStatus(state.run_id, "task-1"), state, once)
    assert NOW < once.retry_at < twice.retry_at
    assert _perform(World(), act.ReadStatus(state.run_id, "task-1"), state, twice).failures == 0


def test_after_an_unknown_enqueue_a_task_counts_as_present_until_a_survey_says_otherwise() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    absent = Known(attempt=1, task_id="task-1", status=TaskStatus.QUEUED, absent_since=1.0)
    enqueue = act.Enqueue(state.run_id, "task-1", "q-cpu")
    for world in (World(), World(fails={"enqueue": OutcomeUnknown()})):
        assert _perform(world, enqueue, state, absent).absent_since is None


def test_what_is_known_of_one_task_is_not_believed_of_another() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id, "theirs"))
    mine = Known(attempt=1, task_id="ours", status=TaskStatus.CREATED, absent_since=3.0, seen_claim="c", failures=2)
    known = _perform(World(now_status=TaskStatus.QUEUED), act.ReadStatus(state.run_id, "theirs"), state, mine)
    assert known == Known(attempt=1, task_id="theirs", status=TaskStatus.QUEUED)


def test_the_status_of_an_earlier_attempts_task_says_nothing_of_the_later_one() -> None:
    """Else a stopped task of attempt 1 would cancel a run that trains in attempt 2 (seed 182,662 of the simulation)."""
    first = accepted()
    later = state_after(first, dispatched(first.run_id, "later"))
    mine = Known(attempt=1, task_id="later", status=TaskStatus.QUEUED)
    stopped = World(now_status=TaskStatus.STOPPED)
    assert _perform(stopped, act.ReadStatus(later.run_id, "earlier"), later, mine) == mine
    assert _perform(stopped, act.ReadStatus(later.run_id, "later"), later, mine).status is TaskStatus.STOPPED


def test_a_clone_is_adopted_only_where_it_is_one() -> None:
    state = state_after(accepted())
    adopt = act.Adopt(state.run_id, "clone-1")
    assert _perform(World(), adopt, state) == Known(attempt=1, task_id="clone-1")
    refused = _perform(World(why_not_adoptable="it is no clone"), adopt, state)
    assert refused.refused == ("not_a_clone", "it is no clone")


def test_a_task_that_others_ran_is_reset_and_looked_at_again() -> None:
    first = accepted()
    state = state_after(first, dispatched(first.run_id))
    theirs = Known(attempt=1, task_id="task-1", status=TaskStatus.FAILED, alive_at=3.0, resets=1)
    known = _perform(World(), act.Reset(state.run_id, "task-1"), state, theirs)
    assert (known.status, known.alive_at, known.resets) == (None, 0.0, 2)
    unknown = _perform(World(fails={"reset": OutcomeUnknown()}), act.Reset(state.run_id, "task-1"), state, theirs)
    assert (unknown.status, unknown.resets) == (None, 1)


@pytest.mark.parametrize(
    ("action", "call"),
    [
        (act.Close("r", "t", TaskStatus.QUEUED, TaskStatus.STOPPED, "over"), "close"),
        (act.Delete("r", "t"), "delete"),
        (act.Restart("r", "t"), "restart"),
        (act.Reveal("r", "m"), "reveal_model"),
        (act.DeleteModel("r", "m"), "delete_model"),
        (act.Requeue("r", "t", "q"), "enqueue"),
    ],
)
def test_sweeping_changes_nothing_that_is_known_and_a_refusal_is_left_to_the_next_survey(
    action: act.Action, call: str
) -> None:
    known = Known(attempt=1, task_id="t", status=TaskStatus.QUEUED)
    world = World()
    assert _perform(world, action, None, known) == known
    assert [name for name, _ in world.calls] == [call]
    assert _perform(World(fails={call: Refused("wrong_status", "no")}), action, None, known) == known
    assert _perform(World(fails={call: NotDone()}), action, None, known).retry_at > NOW


def test_a_lost_conflict_is_kept_as_a_dead_letter_before_it_is_answered() -> None:
    world = World()
    (action,) = reject_conflicts([accepted()], {}, frozenset(), 0.0)
    known = _perform(world, action, None)
    assert [name for name, _ in world.calls] == ["put", "append"]
    assert known.visible_by > NOW
