"""What happens next: `plan(runs, what this planner knows, limits, now) -> actions`. Pure and level-triggered.

The log tells how far each run is; `Known` is what one incarnation of a planner has learnt of ClearML on the way. One
run's next step is `next_action`; here are those that concern several: who comes next into a queue, which runs are
searched for together, and what is swept away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set

from trainyard_dispatcher.actions import Action, Adopt, Create, RejectConflict, Search
from trainyard_dispatcher.known import NOTHING_KNOWN, Known, Limits
from trainyard_dispatcher.next_step import next_action
from trainyard_dispatcher.retrying import is_due, may_dispatch, waits_too_long
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.run_ends import conflict_answer
from trainyard_dispatcher.vigil import Vigil
from trainyard_schemas import events as ev
from trainyard_schemas.ids import partition_of
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_schemas.vocabulary import RunPhase

SEARCH_BATCH = 100
"""Runs per search: ClearML matches a parameter against a list of values."""


def plan(
    runs: Iterable[RunState],
    known: Mapping[str, Known],
    busy: Set[str],
    taken_over_at: Mapping[int, int],
    routing: Routing,
    limits: Limits,
    vigil: Vigil,
    now: float,
    steady: float,
) -> list[Action]:
    """The actions for all open runs, in the order in which they should begin.

    `busy` holds the runs whose action is under way. `taken_over_at` maps each partition to its end when this planner
    took the lead: what stands before it may be another planner's unfinished work. `now` is in seconds on the wall
    clock, `steady` on this process's steady one, on which `vigil` watches too.
    """
    standing = Counter[str]()
    waiting: list[RunState] = []
    actions: list[Action] = []
    to_search: list[str] = []
    for state in runs:
        mine = known.get(state.run_id, NOTHING_KNOWN)
        is_busy = state.run_id in busy
        if state.phase is RunPhase.DISPATCHED:
            standing[state.queue or ""] += 1
        elif may_dispatch(state) and (is_busy or _has_next_task(state, mine)):
            standing[routing.queue(state.request)] += 1
        if is_busy:
            continue
        if _awaits_task(state, mine) and not waits_too_long(state, now):
            if now < mine.retry_at or not is_due(state, vigil, now, steady):
                continue
            if _needs_search(state, mine, taken_over_at):
                to_search.append(state.run_id)
            else:
                waiting.append(state)
            continue
        action = next_action(state, mine, routing, limits, vigil, now, steady)
        if action is not None:
            actions.append(action)
    for start in range(0, len(to_search), SEARCH_BATCH):
        actions.append(Search(tuple(to_search[start : start + SEARCH_BATCH])))
    return actions + _creations(waiting, standing, routing, limits)


def reject_conflicts(
    conflicts: Iterable[ev.RunAccepted], known: Mapping[str, Known], busy: Set[str], now: float
) -> list[RejectConflict]:
    """An answer for each request that lost its key to an earlier one with another content.

    Two intakes cannot see each other, so it is the planner that finds these, reading the losing `run.accepted`.
    """
    actions = []
    for losing in conflicts:
        fact = conflict_answer(losing)
        mine = known.get(fact.run_id, NOTHING_KNOWN)
        if fact.run_id not in busy and now >= max(mine.retry_at, mine.visible_by):
            actions.append(RejectConflict(fact.run_id, fact))
    return actions


def _creations(waiting: list[RunState], standing: Counter[str], routing: Routing, limits: Limits) -> list[Action]:
    """As many creations as the queues have room for: highest priority first, then the oldest."""
    chosen: list[Action] = []
    waiting.sort(key=lambda s: (-s.priority, s.accepted_at, s.run_id))
    for state in waiting:
        queue = routing.queue(state.request)
        if standing[queue] < limits.max_queue_depth:
            standing[queue] += 1
            if state.attempt == 0 and state.adopts_task is not None:
                chosen.append(Adopt(state.run_id, state.adopts_task))
            else:
                chosen.append(Create(state.run_id, state.attempt + 1, queue))
    return chosen


def _awaits_task(state: RunState, known: Known) -> bool:
    """True where the next attempt is due a ClearML task and this planner knows of none yet."""
    return known.refused is None and may_dispatch(state) and not _has_next_task(state, known)


def _has_next_task(state: RunState, known: Known) -> bool:
    """True where this planner knows the task of the attempt that comes next, not only that of the last one."""
    return known.task_id is not None and known.attempt == state.attempt + 1


def _needs_search(state: RunState, known: Known, taken_over_at: Mapping[int, int]) -> bool:
    if _adopts(state) or (known.searched and known.attempt == state.attempt + 1):
        return False
    if known.must_search:
        return True
    return state.offset < taken_over_at.get(partition_of(state.run_id, RUN_PARTITIONS), 0)


def _adopts(state: RunState) -> bool:
    return state.attempt == 0 and state.adopts_task is not None
