"""What a survey of ClearML means: what is known of each open run, and what is to be swept away. Pure.

A survey is a snapshot that may be older than the log as this planner knows it. So it decides nothing that could be
wrong by then: an attempt that is over stays over, and what concerns a running one counts only where the log showed the
same claim when the survey was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace

from trainyard_dispatcher.actions import Action, Close, Delete, DeleteModel, Requeue, Reveal
from trainyard_dispatcher.known import NOTHING_KNOWN, Known, Limits
from trainyard_dispatcher.ports import SeenTask, Survey, TaskStatus, UnseenModel
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase

_ACTIVE = (RunPhase.DISPATCHED, RunPhase.STARTED)
_ENDS = {
    RunPhase.COMPLETED: TaskStatus.COMPLETED,
    RunPhase.ATTEMPT_SUCCEEDED: TaskStatus.COMPLETED,
    RunPhase.FAILED: TaskStatus.FAILED,
    RunPhase.ATTEMPT_FAILED: TaskStatus.FAILED,
    RunPhase.ATTEMPT_LOST: TaskStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the log showed of an active attempt when its task was asked for."""

    run_id: str
    task_id: str
    attempt: int
    claim: str | None


def to_ask(states: Mapping[str, RunState]) -> tuple[Asked, ...]:
    """The active attempts, whose tasks a survey looks at."""
    return tuple(
        Asked(s.run_id, s.task_id, s.attempt, s.claim)
        for s in states.values()
        if s.phase in _ACTIVE and s.task_id is not None
    )


def learn(asked: tuple[Asked, ...], survey: Survey, known: Mapping[str, Known], steady: float) -> dict[str, Known]:
    """What is known of the asked runs after a survey that was sent at `steady` on the steady clock."""
    learnt: dict[str, Known] = {}
    for one in asked:
        before = known.get(one.run_id, NOTHING_KNOWN)
        if before.task_id != one.task_id:
            before = replace(NOTHING_KNOWN, attempt=one.attempt, task_id=one.task_id)
        seen = survey.asked.get(one.task_id)
        absent = seen is not None and seen.status is TaskStatus.QUEUED and one.task_id not in survey.entries
        mark = "" if seen is None else f"{seen.status.value} {seen.sign_of_life}"
        after = replace(
            before,
            seen_claim=one.claim,
            absent_since=(steady if before.absent_since is None else before.absent_since) if absent else None,
            alive_mark=mark,
            alive_at=before.alive_at if mark == before.alive_mark and before.alive_at else steady,
            was_reset_by_us=seen is not None and seen.was_reset_by_us,
        )
        if one.claim is not None:
            learnt[one.run_id] = replace(after, status=TaskStatus.MISSING if seen is None else seen.status)
        elif seen is None or before.status is not seen.status:
            learnt[one.run_id] = replace(after, status=None)  # look again before acting on it
        else:
            learnt[one.run_id] = after
    return learnt


def absent_clones(survey: Survey, before: Mapping[str, float], steady: float) -> dict[str, float]:
    """Since when users' clones have been queued and in no queue, by task: whoever popped them may have died."""
    return {
        task.task_id: before.get(task.task_id, steady)
        for task in survey.open_tasks
        if task.parent is not None and task.status is TaskStatus.QUEUED and task.task_id not in survey.entries
    }


def sweep(
    survey: Survey, lost_clones: Set[str], state_of: Callable[[str], RunState | None], limits: Limits, now: float
) -> Iterator[Action]:
    """What to do with the open tasks that bear our marker and that no attempt needs any more (rule 7).

    A task of a run that the log does not know is left alone: it may be another log's, or a clone that nobody has asked
    for yet. `lost_clones` are those that were absent for long.
    """
    for task in survey.open_tasks:
        state = state_of(task.run_id)
        if state is None:
            if task.task_id in lost_clones and task.queue_id is not None:
                yield Requeue(task.run_id, task.task_id, task.queue_id)
        elif not _is_over(task, state, limits, now):
            continue
        elif task.status is TaskStatus.CREATED:
            if task.parent is None:  # a clone is its user's: it may be edited and enqueued again
                yield Delete(task.run_id, task.task_id)
        else:
            yield _closing(task, state)
    for model in survey.unseen_models:
        state = state_of(model.run_id)
        if state is not None and model.attempt <= state.attempt:
            yield from _judged(model, state, limits, now)


def _judged(model: UnseenModel, state: RunState, limits: Limits, now: float) -> Iterator[Action]:
    """What becomes of a model that nobody sees: its worker shows it where it won and lives."""
    if model.attempt == state.attempt and state.phase is RunPhase.DISPATCHED:
        return
    if model.attempt == state.attempt and model.claim == state.claim:
        ended_at = state.attempt_ended_at
        if ended_at is None or now <= ended_at + limits.close_grace_s:
            return
        if state.phase in (RunPhase.ATTEMPT_SUCCEEDED, RunPhase.COMPLETED):
            yield Reveal(model.run_id, model.model_id)
            return
    yield DeleteModel(model.run_id, model.model_id)


def _is_over(task: SeenTask, state: RunState, limits: Limits, now: float) -> bool:
    """True where nothing can make this task's attempt run any more, and its own worker has had its time to close it."""
    if state.task_id == task.task_id:
        ended_at = state.attempt_ended_at if state.attempt_ended_at is not None else state.ended_at
        return state.phase not in _ACTIVE and now > (ended_at or 0.0) + limits.close_grace_s
    if state.is_ended:
        return now > (state.ended_at or 0.0) + limits.close_grace_s
    return task.attempt <= state.attempt


def _closing(task: SeenTask, state: RunState) -> Close:
    if state.task_id != task.task_id:
        message = f"attempt {task.attempt} of run {state.run_id} was made by another task, or is over"
        return Close(task.run_id, task.task_id, task.status, TaskStatus.STOPPED, message)
    message = f"run {state.phase.value}" + (f": {state.message}" if state.message else "")
    status = _ENDS.get(state.phase, TaskStatus.STOPPED)
    return Close(task.run_id, task.task_id, task.status, status, message)
