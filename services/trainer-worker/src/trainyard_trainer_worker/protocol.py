"""The worker's protocol: what becomes of one popped task, from the pop to the closed ClearML task.

`handle` awaits the ports of ports.py and uses nothing else of asyncio, so that a simulation drives this very code.
The decisions (`dispatched_here`, `claim_won`, `order_of`, `outcome_event`) are pure functions of the fold.

The claim (architecture, rule 4): every pop draws a random claim; `attempt.started` bears it together with the task's
id. This worker won if and only if the winning `started` in the fold bears its claim. Anybody else leaves without a
trace in ClearML: `tasks.started` answers 200 to everybody and arbitrates nothing.

The lease (rules 5 and 6): from the read that showed the claim to have won, `keep` reads the log beside the work. What
it finds reaches training and publishing through the lease. What the claim's holder says at the end counts only if the
log took it: the model is shown and the ClearML task closed after a read has shown that it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trainyard_runtime.failpoints import failpoint
from trainyard_schemas.events import AttemptStarted, AttemptSucceeded, Event, make_event
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import CLONE_SOURCE, Reason, RunPhase
from trainyard_trainer_worker.clones import request_of_clone, run_of_clone
from trainyard_trainer_worker.insisting import fold_on, folded, insist, try_to_tell
from trainyard_trainer_worker.keeping import claim_won, keep
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.marker import Clone, Foreign, Marker, read_marker
from trainyard_trainer_worker.outcome_facts import SOURCE, ordered, outcome_event, task_end
from trainyard_trainer_worker.ports import (
    ClaimVoid,
    Ending,
    Job,
    PoppedTask,
    Ports,
    PublishFailed,
    RunRecords,
    TaskEnd,
    TasksRefused,
)
from trainyard_trainer_worker.spec import Failed, Outcome, Stopped, Succeeded

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
    ASKED = "asked"  # a user's clone: its request is published, and the planner queues it again
    NOT_DISPATCHED = "not_dispatched"  # the log does not want this task now: left alone
    CLAIM_LOST = "claim_lost"  # another pop of the same task won: left alone
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # the claim had won and holds no more: ended without a word
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
        task = await insist(lambda: ports.tasks.read(task_id), ports)
        if task is None:
            return Handled.GONE
        marker = read_marker(task, worker.topic_prefix)
        if isinstance(marker, Foreign):
            await _refuse(task, marker, ports)
            return Handled.FOREIGN
        if isinstance(marker, Clone):
            return await _handle_clone(task, queue, marker, worker, ports)
        state, next_offset = await fold_on(None, marker.run_id, marker.accepted_offset, ports)
    except TasksRefused:
        return Handled.GONE
    except Ending:
        return Handled.ENDING
    return await _claim(task, queue, marker, state, next_offset, worker, ports)


async def _handle_clone(task: PoppedTask, queue: str, clone: Clone, worker: Worker, ports: Ports) -> Handled:
    """Train a clone whose run was dispatched with it; ask for that run where nobody has yet."""
    run_id = run_of_clone(clone.tenant, task.id)
    state, next_offset = await fold_on(None, run_id, None, ports)
    if state is not None and state.is_ended:
        await _refuse(task, Foreign(f"Its run {run_id} has ended. Clone it again to train once more."), ports)
        return Handled.FOREIGN
    if state is not None and state.phase is not RunPhase.ACCEPTED:
        return await _claim(task, queue, Marker(run_id, state.attempt, 0), state, next_offset, worker, ports)
    original, _ = await fold_on(None, clone.run_id, clone.accepted_offset, ports)
    if original is None:
        message = f"The log does not hold the run {clone.run_id} that it was cloned from. Publish a new run request."
        await _refuse(task, Foreign(message), ports)
        return Handled.FOREIGN
    request = request_of_clone(original.request, task.parameters, task.name, queue)
    await insist(lambda: ports.requests.ask(CLONE_SOURCE, task.id, request), ports)
    return Handled.ASKED


async def _claim(
    task: PoppedTask,
    queue: str,
    marker: Marker,
    state: RunState | None,
    next_offset: int,
    worker: Worker,
    ports: Ports,
) -> Handled:
    if not dispatched_here(state, marker, task.id) or state is None:
        return Handled.NOT_DISPATCHED
    claim = ports.new_claim()
    claimed_at = ports.patience.now()
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
        lease_s=state.lease_s,
    )
    started = AttemptStarted(
        run_id=marker.run_id, attempt=marker.attempt, task_id=task.id, claim=claim, worker=worker.name
    )
    event = make_event(started, source=SOURCE, writer=worker.writer, now=claimed_at)
    try:
        await insist(lambda: ports.log.append(event), ports)
        failpoint("W2")
        sent_at, latest, next_offset = await _look(job, state, next_offset, ports)
    except Ending:
        # The claim may have won: whoever holds it must say how it ended. If it did not win, the fold ignores this.
        return await _end(job, Stopped(Reason.HOST_SHUTDOWN), state, next_offset, worker, ports)
    if not claim_won(latest, marker.attempt, claim) or latest is None:
        return Handled.CLAIM_LOST
    failpoint("W3")
    return await _train(job, Lease(job.lease_s, sent_at), latest, next_offset, worker, ports)


async def _train(job: Job, lease: Lease, state: RunState, next_offset: int, worker: Worker, ports: Ports) -> Handled:
    async def work() -> Outcome:
        await try_to_tell(lambda: _tell_of_the_start(job, ports), ports, TELL_TRIES)
        outcome = await ports.training.run(job, lease)
        return await _publish(job, outcome, lease, ports) if isinstance(outcome, Succeeded) else outcome

    outcome = await ports.beside(keep(job, lease, state, next_offset, ports), work())
    if lease.is_void:
        return Handled.SUPERSEDED
    return await _end(job, outcome, state, next_offset, worker, ports)


async def _tell_of_the_start(job: Job, ports: Ports) -> None:
    """Make ClearML show the claimed task as running, but not one that a user stopped since its pop: the planner cancels
    that run as soon as it sees the task, and `started` would hide it."""
    task = await ports.tasks.read(job.task.id)
    if task is None or task.status != "stopped":
        await ports.tasks.started(job.task.id)


async def _publish(job: Job, outcome: Succeeded, lease: Lease, ports: Ports) -> Outcome:
    try:
        results = await ports.publisher.publish(job, outcome, lease)
    except PublishFailed as problem:
        return Failed(problem.reason, problem.detail, problem.message, outcome.results)
    except ClaimVoid:
        return ordered(lease)
    except Ending:
        return Stopped(Reason.HOST_SHUTDOWN)
    failpoint("W5")
    return Succeeded(results, outcome.model, outcome.artifacts)


async def _end(job: Job, outcome: Outcome, state: RunState, next_offset: int, worker: Worker, ports: Ports) -> Handled:
    event = outcome_event(job, outcome, worker.name, worker.writer, ports.patience.now())
    try:
        await ports.outbox.deliver(event)
        failpoint("W6")
        _, latest, _ = await _look(job, state, next_offset, ports)
    except Ending:
        return Handled.STOPPED
    if not outcome_won(latest, event):
        return Handled.SUPERSEDED
    await conclude(event, ports)
    return handled_as(outcome)


async def settle(event: Event, ports: Ports) -> None:
    """What is left to do for an outcome that a former incarnation of this worker sent or kept. Raises Ending."""
    state, _ = await fold_on(None, event.fact.run_id, None, ports)
    if outcome_won(state, event):
        await conclude(event, ports)


async def conclude(event: Event, ports: Ports) -> None:
    """Make ClearML agree with the outcome `event`, which has won, or leave it to the planner. Never raises."""
    fact, end = event.fact, task_end(event.fact)
    if end is None:
        return
    if isinstance(fact, AttemptSucceeded):
        await try_to_tell(lambda: ports.publisher.reveal(fact.results), ports, CLOSE_TRIES)
    task_id, status, reason, message = end
    await try_to_tell(lambda: ports.tasks.close(task_id, status, reason=reason, message=message), ports, CLOSE_TRIES)


def handled_as(outcome: Outcome) -> Handled:
    """What became of a task whose outcome won."""
    if isinstance(outcome, Stopped):
        return Handled.CANCELLED if outcome.reason is Reason.USER else Handled.STOPPED
    return Handled.SUCCEEDED if isinstance(outcome, Succeeded) else Handled.FAILED


_AFTER = {
    "trainyard.attempt.succeeded": (RunPhase.ATTEMPT_SUCCEEDED, RunPhase.COMPLETED),
    "trainyard.attempt.failed": (RunPhase.ATTEMPT_FAILED, RunPhase.FAILED),
    "trainyard.attempt.cancelled": (RunPhase.ATTEMPT_CANCELLED, RunPhase.CANCELLED),
}


def outcome_won(state: RunState | None, event: Event) -> bool:
    """True where the log ended the attempt by this very outcome. Once another attempt has begun it is of no matter."""
    fact: Any = event.fact
    return (
        state is not None
        and state.attempt == fact.attempt
        and state.claim == fact.claim
        and state.phase in _AFTER[event.type.value]
    )


async def _look(job: Job, state: RunState, next_offset: int, ports: Ports) -> tuple[float, RunState | None, int]:
    """When the fetch was sent that reached the log's end, the run's state there, and the offset to go on from."""

    async def look() -> tuple[float, RunRecords]:
        sent_at = ports.patience.steady()
        return sent_at, await ports.log.read_run(job.run_id, next_offset)

    sent_at, records = await insist(look, ports)
    return sent_at, folded(state, records), records.next_offset


async def _refuse(task: PoppedTask, foreign: Foreign, ports: Ports) -> None:
    if task.status != "queued":
        return  # the other pop of a doubled entry has dealt with it, or a user has
    await insist(
        lambda: ports.tasks.close(task.id, TaskEnd.FAILED, reason="foreign_task", message=foreign.message), ports
    )
