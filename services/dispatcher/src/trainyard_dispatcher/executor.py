"""Performs the planner's actions through ports, and says what it learnt. No retries, no clocks, no concurrency here:

the loop that owns it runs several `perform` side by side, never two for one run, and plans again with what came back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from trainyard_dispatcher import actions as act
from trainyard_dispatcher.actions import Action, runs_of
from trainyard_dispatcher.known import NOTHING_KNOWN, Known
from trainyard_dispatcher.ports import DeadLetters, Ledger, NotDone, OutcomeUnknown, Refused, Tasks, TaskStatus
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.task_body import project_name, task_body
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState

_FIRST_BACKOFF_S = 0.2
_LAST_BACKOFF_S = 30.0
_APPEND_VISIBLE_S = 5.0


class Executor:
    """Acts for one incarnation of a planner.

    `window` is called with the name of each crash window (D1 to D6, O1) as it is passed; production gives the
    failpoints, the simulation its own.
    """

    def __init__(
        self,
        tasks: Tasks,
        ledger: Ledger,
        dead_letters: DeadLetters,
        routing: Routing,
        topic_prefix: str,
        window: Callable[[str], None],
    ) -> None:
        self._tasks = tasks
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._routing = routing
        self._topic_prefix = topic_prefix
        self._window = window

    async def perform(
        self, action: Action, states: Mapping[str, RunState], known: Mapping[str, Known], clock: Callable[[], float]
    ) -> dict[str, Known]:
        """Do one action and return what is now known of each run that it touched.

        Failures become knowledge too. Not done: try again after a pause. Unknown: look before doing it again. Refused:
        the run will be told. `states` are those that the action was planned from, `clock` gives seconds.
        """
        runs = runs_of(action)
        before = {run_id: known.get(run_id, NOTHING_KNOWN) for run_id in runs}
        try:
            learnt = await self._act(action, states, before, clock)
        except Refused as refusal:
            return {r: _after_refusal(action, k, refusal, clock()) for r, k in before.items()}
        except NotDone:
            return {r: _again_later(k, clock()) for r, k in before.items()}
        except OutcomeUnknown:
            return {r: _again_later(_forget(action, k), clock()) for r, k in before.items()}
        return {r: replace(k, failures=0) for r, k in learnt.items()}

    async def _act(
        self,
        action: Action,
        states: Mapping[str, RunState],
        known: Mapping[str, Known],
        clock: Callable[[], float],
    ) -> dict[str, Known]:
        match action:
            case act.Search():
                return await self._search(action, states, known)
            case act.Create():
                return {action.run_id: await self._create(action, states[action.run_id])}
            case act.Dispatch():
                state = states[action.run_id]
                return {action.run_id: await self._dispatch(action, state, known[action.run_id], clock)}
            case act.RejectConflict():
                return {action.run_id: await self._reject(action, known[action.run_id], clock)}
            case act.Append():
                if isinstance(action.fact, ev.AttemptQueued):
                    self._window("D6")
                elif isinstance(action.fact, ev.RunEnd):
                    self._window("O1")
                await self._ledger.append(action.fact)
                return {action.run_id: _appended(known[action.run_id], action.at_offset, clock())}
            case act.Enqueue():
                self._window("D4")
                await self._tasks.enqueue(action.task_id, action.queue_id)
                self._window("D5")
                queued = replace(known[action.run_id], status=TaskStatus.QUEUED, absent_since=None)
                return {action.run_id: queued}
            case act.ReadStatus():
                status = await self._tasks.status(action.task_id)
                return {action.run_id: _saw(action.task_id, known[action.run_id], states[action.run_id], status)}
            case act.Adopt():
                return {action.run_id: await self._adopt(action)}
            case act.Reset():
                await self._tasks.reset(action.task_id)
                mine = known[action.run_id]
                return {action.run_id: replace(mine, status=None, alive_at=0.0, resets=mine.resets + 1)}
            case act.Restart():
                await self._tasks.restart(action.task_id)
            case act.Close():
                await self._tasks.close(action.task_id, action.was, action.status, action.message)
            case act.Delete():
                await self._tasks.delete(action.task_id)
            case act.Reveal():
                await self._tasks.reveal_model(action.model_id)
            case act.DeleteModel():
                await self._tasks.delete_model(action.model_id)
            case act.Requeue():
                await self._tasks.enqueue(action.task_id, action.queue_id)
            case _:
                assert_never(action)
        return {action.run_id: known[action.run_id]}

    async def _search(
        self, action: act.Search, states: Mapping[str, RunState], known: Mapping[str, Known]
    ) -> dict[str, Known]:
        found = await self._tasks.find(action.run_ids)
        learnt = {}
        for run_id in action.run_ids:
            attempt = states[run_id].attempt + 1
            mine = sorted(t.task_id for t in found if t.run_id == run_id and t.attempt == attempt)
            learnt[run_id] = replace(
                known[run_id],
                attempt=attempt,
                task_id=mine[0] if mine else None,
                status=None,
                searched=True,
                must_search=False,
            )
        return learnt

    async def _create(self, action: act.Create, state: RunState) -> Known:
        await self._tasks.queue_id(action.queue)  # an unknown queue is refused before a task is made for it
        self._window("D1")
        image = self._routing.image(str(state.request.get("trainer")))
        body = task_body(state, action.attempt, image, self._topic_prefix, self._routing.container_arguments)
        task_id = await self._tasks.create(project_name(state.request), body)
        self._window("D2")
        return Known(attempt=action.attempt, task_id=task_id, status=TaskStatus.CREATED)

    async def _adopt(self, action: act.Adopt) -> Known:
        why_not = await self._tasks.adoptable(action.task_id)
        if why_not is not None:
            return Known(refused=("not_a_clone", why_not))
        return Known(attempt=1, task_id=action.task_id)

    async def _dispatch(self, action: act.Dispatch, state: RunState, known: Known, clock: Callable[[], float]) -> Known:
        queue_id = await self._tasks.queue_id(action.queue)
        await self._ledger.append(
            ev.AttemptDispatched(
                run_id=action.run_id,
                attempt=action.attempt,
                task_id=action.task_id,
                queue=action.queue,
                queue_id=queue_id,
                image=self._routing.image(str(state.request.get("trainer"))),
                lease_s=action.lease_s,
            )
        )
        self._window("D3")
        return _appended(known, action.at_offset, clock())

    async def _reject(self, action: act.RejectConflict, known: Known, clock: Callable[[], float]) -> Known:
        fact = action.fact
        await self._dead_letters.put(fact.origin, fact.run_id, fact.reason.value, fact.detail, fact.message)
        await self._ledger.append(fact)
        return replace(known, visible_by=clock() + _APPEND_VISIBLE_S)


def _appended(known: Known, at_offset: int, now: float) -> Known:
    return replace(known, appended_at=at_offset, visible_by=now + _APPEND_VISIBLE_S)


def _saw(task_id: str, known: Known, state: RunState, status: TaskStatus) -> Known:
    if task_id != state.task_id:
        return known  # planned before the fold came to a later attempt, whose task this is not
    if known.task_id != state.task_id:
        known = replace(NOTHING_KNOWN, failures=known.failures)
    return replace(known, attempt=state.attempt, task_id=state.task_id, status=status)


def _again_later(known: Known, now: float) -> Known:
    pause_s = min(_LAST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0**known.failures)
    return replace(known, failures=min(known.failures + 1, 16), retry_at=now + pause_s)


def _forget(action: Action, known: Known) -> Known:
    """What is still known after an effect whose outcome is not."""
    match action:
        case act.Create():
            return replace(known, searched=False, must_search=True)
        case act.Enqueue() | act.Reset():
            return replace(known, status=None, absent_since=None)
        case _:
            return known


def _after_refusal(action: Action, known: Known, refusal: Refused, now: float) -> Known:
    match action:
        case act.Enqueue() if refusal.detail == "wrong_status":
            return _again_later(replace(known, status=None), now)
        case act.Enqueue() if refusal.detail == "no_such_task":
            return replace(known, status=TaskStatus.MISSING)
        case act.Create() | act.Dispatch() | act.Enqueue():
            return replace(known, refused=(refusal.detail, refusal.message))
        case act.Close() | act.Delete() | act.Requeue() | act.Restart() | act.Reveal() | act.DeleteModel():
            return known  # the next survey shows what is there now
        case act.Reset():
            return _again_later(replace(known, status=None), now)
        case _:
            return _again_later(known, now)
