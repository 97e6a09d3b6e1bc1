"""What happens next: `plan(runs, what this planner knows, limits, now) -> actions`. Pure and level-triggered.

The log tells how far each run is; `Known` is what one incarnation of a planner has learnt of ClearML on the way, and
may be lost at any moment: a planner that knows nothing looks first (search, read the status) and then acts. Dispatch,
healing after a crash, retry and the end of a run are all cases of the same rule for one run, `next_action`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from trainyard_dispatcher.ports import TaskStatus
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.task_body import project_name, run_name
from trainyard_schemas import events as ev
from trainyard_schemas.envelope import format_time
from trainyard_schemas.ids import Origin, partition_of, run_id_from_origin
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.runs import Retry
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_schemas.vocabulary import Reason, RunPhase

SEARCH_BATCH = 100
"""Runs per search: ClearML matches a parameter against a list of values."""


@dataclass(frozen=True, slots=True)
class Known:
    """What this planner knows of one run's ClearML task beyond the log; the default knows nothing.

    `attempt` and `task_id` name the task that was created or found, `status` what it was when last seen (None: look
    again). `must_search`: a create may have happened, so look before creating. `appended_at`: a fact was appended when
    the run's state stood at that offset; until `visible_by` wait for the state to move on, then append it again.
    `retry_at`: no action before it. Times in seconds.
    """

    attempt: int = 0
    task_id: str | None = None
    status: TaskStatus | None = None
    searched: bool = False
    must_search: bool = False
    refused: tuple[str, str] | None = None
    appended_at: int | None = None
    visible_by: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    closed: bool = False


NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_queue_depth` bounds the runs that stand in one ClearML queue: the backlog stays in Kafka, where order and
    priority can still change. `close_grace_s`: how long a worker may take to close its task by itself."""

    max_queue_depth: int = 100
    close_grace_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Search:
    """Look for tasks of these runs before creating any."""

    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Create:
    """Create the ClearML task of an attempt."""

    run_id: str
    attempt: int
    queue: str


@dataclass(frozen=True, slots=True)
class Append:
    """Append a fact to the log; `at_offset` is the state's offset that it follows from."""

    run_id: str
    fact: ev.Fact
    at_offset: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Append `attempt.dispatched` for a task that exists."""

    run_id: str
    attempt: int
    task_id: str
    queue: str
    at_offset: int


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Put the winning task into its queue, once, by the queue's id."""

    run_id: str
    task_id: str
    queue_id: str


@dataclass(frozen=True, slots=True)
class ReadStatus:
    """Ask ClearML for the status of a task."""

    run_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Close:
    """Make a task that its worker left open agree with how the run ended."""

    run_id: str
    task_id: str
    status: TaskStatus
    message: str


@dataclass(frozen=True, slots=True)
class RejectConflict:
    """Answer a request that came under a key which another request holds; `run_id` is derived from its own origin."""

    run_id: str
    fact: ev.RunRejected


Action = Search | Create | Append | Dispatch | Enqueue | ReadStatus | Close | RejectConflict


def plan(
    runs: Iterable[RunState],
    known: Mapping[str, Known],
    busy: Set[str],
    taken_over_at: Mapping[int, int],
    routing: Routing,
    limits: Limits,
    now: float,
) -> list[Action]:
    """The actions for all open runs, in the order in which they should begin.

    `busy` holds the runs whose action is under way. `taken_over_at` maps each partition to its end when this planner
    took the lead: what stands before it may be another planner's unfinished work. `now` in seconds.
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
        elif _may_dispatch(state) and (is_busy or _has_next_task(state, mine)):
            standing[routing.queue(state.request)] += 1
        if is_busy:
            continue
        if _awaits_task(state, mine):
            if now < max(mine.retry_at, _earliest_dispatch(state)):
                continue
            if _needs_search(state, mine, taken_over_at):
                to_search.append(state.run_id)
            else:
                waiting.append(state)
            continue
        action = next_action(state, mine, routing, limits, now)
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


def conflict_answer(losing: ev.RunAccepted) -> ev.RunRejected:
    """What a request is told that came second under its key, with another content."""
    origin = losing.origin
    held = "idempotency_key" if losing.request.get("idempotency_key") else "CloudEvent source and id"
    return ev.RunRejected(
        run_id=run_id_from_origin(
            losing.tenant, Origin(origin.topic, origin.partition, origin.offset, origin.timestamp_ms)
        ),
        reason=Reason.INVALID_REQUEST,
        detail="idempotency_conflict",
        message=f"another request holds the same {held}: run {losing.run_id}; send a new one, or the same request",
        origin=origin,
        run_name=run_name(losing.request, losing.run_id),
        project=project_name(losing.request),
        trainer=str(losing.request.get("trainer")),
        conflicts_with=losing.run_id,
    )


def _creations(waiting: list[RunState], standing: Counter[str], routing: Routing, limits: Limits) -> list[Action]:
    """As many creations as the queues have room for: highest priority first, then the oldest."""
    chosen: list[Action] = []
    waiting.sort(key=lambda s: (-s.priority, s.accepted_at, s.run_id))
    for state in waiting:
        queue = routing.queue(state.request)
        if standing[queue] < limits.max_queue_depth:
            standing[queue] += 1
            chosen.append(Create(state.run_id, state.attempt + 1, queue))
    return chosen


def next_action(state: RunState, known: Known, routing: Routing, limits: Limits, now: float) -> Action | None:
    """The next step of one run that needs no room in a queue; None where there is nothing to do now."""
    if now < known.retry_at or (known.appended_at == state.offset and now < known.visible_by):
        return None
    match state.phase:
        case RunPhase.DISPATCHED:
            return _toward_queue(state, known)
        case RunPhase.ATTEMPT_SUCCEEDED | RunPhase.ATTEMPT_CANCELLED:
            return _append_end(state, now)
        case RunPhase.ACCEPTED | RunPhase.ATTEMPT_FAILED:
            if state.cancel_actor is not None or not _may_dispatch(state) or known.refused is not None:
                return _append_end(state, now, known.refused)
            if known.task_id is not None and known.attempt == state.attempt + 1:
                queue = routing.queue(state.request)
                return Dispatch(state.run_id, known.attempt, known.task_id, queue, state.offset)
            return None
        case RunPhase.COMPLETED | RunPhase.FAILED | RunPhase.CANCELLED:
            return _toward_closed(state, known, limits, now)
        case _:
            return None


def _toward_queue(state: RunState, known: Known) -> Action | None:
    """Dispatched: the winning task goes into its queue, whoever created it, and the log is told."""
    assert state.task_id is not None
    if state.queued_at is not None:
        return None
    if known.refused is not None and known.task_id == state.task_id:
        detail, message = known.refused
        fact: ev.Fact = ev.AttemptFailed(
            run_id=state.run_id,
            attempt=state.attempt,
            task_id=state.task_id,
            reason=Reason.CLEARML_REJECTED,
            detail=detail,
            message=message,
        )
        return Append(state.run_id, fact, state.offset)
    status = known.status if known.task_id == state.task_id else None
    if status is None:
        return ReadStatus(state.run_id, state.task_id)
    if status is TaskStatus.CREATED:
        return Enqueue(state.run_id, state.task_id, state.queue_id or "")
    if status is TaskStatus.MISSING:
        fact = ev.AttemptCancelled(
            run_id=state.run_id,
            attempt=state.attempt,
            task_id=state.task_id,
            reason=Reason.USER,
            detail="task_deleted",
            message="the attempt's ClearML task was deleted before a worker took it",
        )
    else:
        fact = ev.AttemptQueued(
            run_id=state.run_id, attempt=state.attempt, task_id=state.task_id, queue=state.queue or ""
        )
    return Append(state.run_id, fact, state.offset)


_CLOSING_STATUS = {
    RunPhase.COMPLETED: TaskStatus.COMPLETED,
    RunPhase.FAILED: TaskStatus.FAILED,
    RunPhase.CANCELLED: TaskStatus.STOPPED,
}


def _toward_closed(state: RunState, known: Known, limits: Limits, now: float) -> Action | None:
    """Ended: ClearML is made to agree with the log where the worker died before it could."""
    if state.task_id is None or known.closed or now < (state.ended_at or 0.0) + limits.close_grace_s:
        return None
    if known.task_id == state.task_id and known.status is TaskStatus.IN_PROGRESS:
        message = f"run {state.phase.value}" + (f": {state.message}" if state.message else "")
        return Close(state.run_id, state.task_id, _CLOSING_STATUS[state.phase], message)
    return ReadStatus(state.run_id, state.task_id)


def _append_end(state: RunState, now: float, refused: tuple[str, str] | None = None) -> Append:
    return Append(state.run_id, run_end(state, now, refused), state.offset)


def run_end(state: RunState, now: float, refused: tuple[str, str] | None = None) -> ev.Fact:
    """The terminal fact of a run, made of its state alone: any planner makes the same one but for its time."""
    request = state.request
    common = {
        "run_id": state.run_id,
        "run_name": run_name(request, state.run_id),
        "project": project_name(request),
        "trainer": str(request.get("trainer")),
        "tags": tuple(request.get("tags") or ()),
        "attempt": state.attempt,
        "task_id": state.task_id,
        "queue": state.queue,
        "worker": state.worker,
        "accepted_at": format_time(state.accepted_at),
        "started_at": None if state.started_at is None else format_time(state.started_at),
        "ended_at": format_time(state.attempt_ended_at if state.attempt_ended_at is not None else now),
        "results": dict(state.results or {}),
    }
    if state.phase is RunPhase.ATTEMPT_SUCCEEDED:
        return ev.RunCompleted.model_validate(common)
    if state.phase is RunPhase.ATTEMPT_CANCELLED or state.cancel_actor is not None:
        why = {"reason": state.reason or Reason.USER, "detail": state.detail, "message": state.message}
        return ev.RunCancelled.model_validate(common | why)
    if refused is not None:
        why = {"reason": Reason.CLEARML_REJECTED, "detail": refused[0], "message": refused[1]}
    else:
        why = {"reason": state.reason or Reason.INTERNAL, "detail": state.detail, "message": state.message}
    return ev.RunFailed.model_validate(common | why)


def _retry_of(state: RunState) -> Retry:
    return Retry.model_validate(state.request.get("retry") or {}, strict=False)


def _may_dispatch(state: RunState) -> bool:
    """True where the table and the request's retry policy allow another attempt."""
    if state.phase is RunPhase.ACCEPTED:
        return True
    if state.phase is not RunPhase.ATTEMPT_FAILED:
        return False
    retry = _retry_of(state)
    return state.reason in retry.on and state.attempt < retry.max_attempts


def _awaits_task(state: RunState, known: Known) -> bool:
    """True where the next attempt is due a ClearML task and this planner knows of none yet."""
    if known.refused is not None or state.cancel_actor is not None or not _may_dispatch(state):
        return False
    return not _has_next_task(state, known)


def _has_next_task(state: RunState, known: Known) -> bool:
    """True where this planner knows the task of the attempt that comes next, not only that of the last one."""
    return known.task_id is not None and known.attempt == state.attempt + 1


def _earliest_dispatch(state: RunState) -> float:
    """When the next attempt may be made: after a pause that doubles from one attempt to the next; seconds."""
    if state.attempt == 0 or state.attempt_ended_at is None:
        return 0.0
    return state.attempt_ended_at + _retry_of(state).backoff_s * 2.0 ** (state.attempt - 1)


def _needs_search(state: RunState, known: Known, taken_over_at: Mapping[int, int]) -> bool:
    if known.searched and known.attempt == state.attempt + 1:
        return False
    if known.must_search:
        return True
    return state.offset < taken_over_at.get(partition_of(state.run_id, RUN_PARTITIONS), 0)
