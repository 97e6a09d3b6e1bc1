"""The worker's protocol: what becomes of one popped task, from the pop to the closed ClearML task.

`handle` awaits the ports of ports.py and uses nothing else of asyncio, so that a simulation drives this very code.
The decisions (`dispatched_here`, `claim_won`, `outcome_event`) are pure functions of the fold.

The claim (architecture, rule 4): every pop draws a random claim; `attempt.started` bears it together with the task's
id. This worker won if and only if the winning `started` in the fold bears its claim. Anybody else leaves without a
trace in ClearML: `tasks.started` answers 200 to everybody and arbitrates nothing.

Room for what comes with the lease (rules 5 and 6): `_train` is the one place where a claim is held and training runs.
The watchdog wraps `ports.training.run(job)` there, fed by the time at which `_confirm`'s read was *sent*; it freezes
and thaws the child, and ends it when a read shows that `claim_won` no longer holds. Cancel (rule 8) enters at the same
place, as a `Stopped(Reason.USER)` outcome. Neither changes the order of the steps below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.kafka.records import LogUnavailable
from trainyard_schemas.events import AttemptFailed, AttemptStarted, AttemptSucceeded, Event, make_event
from trainyard_schemas.lifecycle import RunState, apply
from trainyard_schemas.vocabulary import Reason, RunPhase
from trainyard_trainer_worker.marker import Foreign, Marker, read_marker
from trainyard_trainer_worker.ports import (
    Ending,
    Job,
    PoppedTask,
    Ports,
    PublishFailed,
    RunRecords,
    TasksRefused,
    TasksUnavailable,
)
from trainyard_trainer_worker.results import MAX_MESSAGE, bounded
from trainyard_trainer_worker.spec import Failed, Outcome, Stopped, Succeeded

T = TypeVar("T")

SOURCE = "trainyard/trainer-worker"
TELL_TRIES = 3
"""How often ClearML is told of a start: training does not wait for it."""

CLOSE_TRIES = 60
"""How often a task's end is told after its outcome is in the log (about 10 minutes): while ClearML is away there is
nothing to pop either. After that the planner makes ClearML agree."""

DEADLINE_FACTOR = 3.0
DEADLINE_EXTRA_S = 600.0


class Handled(StrEnum):
    """What became of a popped task."""

    GONE = "gone"  # ClearML has no such task any more
    FOREIGN = "foreign"  # not ours: failed with a message
    NOT_DISPATCHED = "not_dispatched"  # the log does not want this task now: left alone
    CLAIM_LOST = "claim_lost"  # another pop of the same task won: left alone
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"  # this process ends, and so did the attempt
    ENDING = "ending"  # this process ends; nothing had been claimed


@dataclass(frozen=True, slots=True)
class Worker:
    """Who works: `name` as ClearML and the events show it, `writer` one incarnation of the process."""

    name: str
    writer: str
    topic_prefix: str
    default_deadline_s: float | None = None


def dispatched_here(state: RunState | None, marker: Marker, task_id: str) -> bool:
    """True where the fold waits for a worker to claim exactly this task for exactly this attempt."""
    return (
        state is not None
        and state.phase is RunPhase.DISPATCHED
        and state.attempt == marker.attempt
        and state.task_id == task_id
    )


def claim_won(state: RunState | None, attempt: int, claim: str) -> bool:
    """True while `claim` holds the attempt."""
    return state is not None and state.phase is RunPhase.STARTED and state.attempt == attempt and state.claim == claim


def deadline_of(request: Any, default_s: float | None) -> float:
    """Seconds an attempt may take: as requested, else as configured, else three time budgets and ten minutes."""
    asked = request.get("deadline_s")
    if isinstance(asked, int | float) and not isinstance(asked, bool):
        return float(asked)
    if default_s is not None:
        return default_s
    budget = request.get("time_budget_s")
    budget_s = float(budget) if isinstance(budget, int | float) and not isinstance(budget, bool) else 0.0
    return DEADLINE_FACTOR * budget_s + DEADLINE_EXTRA_S


async def handle(task_id: str, queue: str, worker: Worker, ports: Ports) -> Handled:
    """Take one popped task to its end. Never raises Ending; any other exception is a bug and ends the worker."""
    failpoint("W1")
    try:
        task = await _insist(lambda: ports.tasks.read(task_id), ports)
        if task is None:
            return Handled.GONE
        marker = read_marker(task, worker.topic_prefix)
        if isinstance(marker, Foreign):
            await _refuse(task, marker, ports)
            return Handled.FOREIGN
        state, next_offset = await _fold_on(None, marker.run_id, marker.accepted_offset, ports)
    except TasksRefused:
        return Handled.GONE
    except Ending:
        return Handled.ENDING
    if not dispatched_here(state, marker, task.id) or state is None:
        return Handled.NOT_DISPATCHED
    return await _claim_and_train(task, queue, marker, state, next_offset, worker, ports)


async def _claim_and_train(
    task: PoppedTask, queue: str, marker: Marker, state: RunState, next_offset: int, worker: Worker, ports: Ports
) -> Handled:
    claim = ports.new_claim()
    claimed_at = ports.patience.now()
    started = AttemptStarted(
        run_id=marker.run_id, attempt=marker.attempt, task_id=task.id, claim=claim, worker=worker.name
    )
    job = Job(
        run_id=marker.run_id,
        attempt=marker.attempt,
        claim=claim,
        task=task,
        queue=queue,
        request=state.request,
        accepted_at=state.accepted_at,
        claimed_at=claimed_at,
        deadline_s=deadline_of(state.request, worker.default_deadline_s),
    )
    event = make_event(started, source=SOURCE, writer=worker.writer, now=claimed_at)
    try:
        await _insist(lambda: ports.log.append(event), ports)
        failpoint("W2")
        latest, _ = await _fold_on(state, marker.run_id, next_offset, ports)
    except Ending:
        # The claim may have won: whoever holds it must say how it ended. If it did not win, the fold ignores this.
        return await _end(job, Stopped(Reason.HOST_SHUTDOWN), worker, ports)
    if not claim_won(latest, marker.attempt, claim):
        return Handled.CLAIM_LOST
    failpoint("W3")
    return await _train(job, worker, ports)


async def _train(job: Job, worker: Worker, ports: Ports) -> Handled:
    await _try_to_tell(lambda: ports.tasks.started(job.task.id), ports, TELL_TRIES)
    outcome = await ports.training.run(job)
    if isinstance(outcome, Succeeded):
        try:
            results = await ports.publisher.publish(job, outcome)
        except PublishFailed as problem:
            outcome = Failed(problem.reason, problem.detail, problem.message, outcome.results)
        except Ending:
            outcome = Stopped(Reason.HOST_SHUTDOWN)
        else:
            outcome = Succeeded(results, outcome.model, outcome.artifacts)
            failpoint("W5")
    return await _end(job, outcome, worker, ports)


async def _end(job: Job, outcome: Outcome, worker: Worker, ports: Ports) -> Handled:
    event = outcome_event(job, outcome, worker, ports.patience.now())
    handled = {Succeeded: Handled.SUCCEEDED, Failed: Handled.FAILED, Stopped: Handled.STOPPED}[type(outcome)]
    try:
        await ports.outbox.deliver(event)
    except Ending:
        return Handled.STOPPED
    failpoint("W6")
    await close_task(event, ports)
    return handled


async def close_task(event: Event, ports: Ports) -> None:
    """Make ClearML's task agree with the outcome `event`, or leave it to the planner. Never raises."""
    fact = event.fact
    if isinstance(fact, AttemptSucceeded):
        task_id, succeeded, reason, message = fact.task_id, True, "completed", _summary(fact)
    elif isinstance(fact, AttemptFailed) and fact.task_id is not None:
        task_id, succeeded, reason, message = fact.task_id, False, fact.reason.value, fact.message
    else:
        return
    await _try_to_tell(
        lambda: ports.tasks.close(task_id, succeeded=succeeded, reason=reason, message=message), ports, CLOSE_TRIES
    )


def outcome_event(job: Job, outcome: Outcome, worker: Worker, now: float) -> Event:
    """The event that the claim's holder appends for `outcome`, once the child is reaped."""
    if isinstance(outcome, Succeeded):
        fact: AttemptSucceeded | AttemptFailed = AttemptSucceeded(
            run_id=job.run_id,
            attempt=job.attempt,
            task_id=job.task.id,
            claim=job.claim,
            worker=worker.name,
            results=bounded(outcome.results),
        )
    else:
        reason, detail, message, results = _failure(outcome, worker)
        fact = AttemptFailed(
            run_id=job.run_id,
            attempt=job.attempt,
            task_id=job.task.id,
            claim=job.claim,
            worker=worker.name,
            reason=reason,
            detail=detail,
            message=message,
            results=results,
        )
    return make_event(fact, source=SOURCE, writer=worker.writer, now=now)


def _failure(outcome: Failed | Stopped, worker: Worker) -> tuple[Reason, str | None, str, dict[str, Any]]:
    if isinstance(outcome, Failed):
        return outcome.reason, outcome.detail or None, outcome.message[:MAX_MESSAGE], bounded(outcome.results)
    if outcome.reason is Reason.HOST_SHUTDOWN:
        return outcome.reason, None, f"The worker {worker.name} was shut down.", {}
    return outcome.reason, None, f"The attempt was ended: {outcome.reason.value}.", {}


def _summary(fact: AttemptSucceeded) -> str:
    metric, value = fact.results.get("metric"), fact.results.get("value")
    return f"{metric} {value:.6g}" if isinstance(value, int | float) else "trained"


async def _fold_on(state: RunState | None, run_id: str, from_offset: int, ports: Ports) -> tuple[RunState | None, int]:
    """The fold of the run after all records from `from_offset` to the log's end, and the offset to go on from."""
    records: RunRecords = await _insist(lambda: ports.log.read_run(run_id, from_offset), ports)
    for offset, event in records.events:
        state = apply(state, event, offset).state
    return state, records.next_offset


async def _refuse(task: PoppedTask, foreign: Foreign, ports: Ports) -> None:
    if task.status != "queued":
        return  # the other pop of a doubled entry has dealt with it, or a user has
    await _insist(
        lambda: ports.tasks.close(task.id, succeeded=False, reason="foreign_task", message=foreign.message), ports
    )


async def _insist(action: Callable[[], Awaitable[T]], ports: Ports) -> T:
    """Repeat `action` until it answers. Raises Ending, and whatever says that repeating is of no use."""
    tries = 0
    while True:
        try:
            return await action()
        except (LogUnavailable, TasksUnavailable):  # AppendUnknown is a LogUnavailable: the same record again
            tries += 1
            await ports.patience.wait(tries)


async def _try_to_tell(action: Callable[[], Awaitable[None]], ports: Ports, limit: int) -> bool:
    """Repeat `action` up to `limit` times; False where ClearML was not told. Never raises."""
    for tries in range(1, limit + 1):
        try:
            await action()
        except TasksRefused:
            return False
        except TasksUnavailable:
            if tries == limit:
                return False
            try:
                await ports.patience.wait(tries)
            except Ending:
                return False
        else:
            return True
    return False
