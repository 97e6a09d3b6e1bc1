"""What the holder of a claim writes about its attempt's end. Pure."""

from __future__ import annotations

from typing import Any

from trainyard_schemas.events import AttemptCancelled, AttemptFailed, AttemptSucceeded, Event, Fact, make_event
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.lease import Lease, Stop
from trainyard_trainer_worker.ports import Job, TaskEnd
from trainyard_trainer_worker.results import MAX_MESSAGE, bounded
from trainyard_trainer_worker.spec import Failed, Outcome, Stopped, Succeeded

SOURCE = "trainyard/trainer-worker"


def outcome_event(job: Job, outcome: Outcome, worker: str, writer: str, now: float) -> Event:
    """The event that the claim's holder appends for `outcome`, once the child is reaped."""
    return make_event(_fact(job, outcome, worker), source=SOURCE, writer=writer, now=now)


def task_end(fact: Fact) -> tuple[str, TaskEnd, str, str] | None:
    """How the ClearML task of an outcome is closed: its id, the status, a reason and a message; None: it is none."""
    if isinstance(fact, AttemptSucceeded):
        return fact.task_id, TaskEnd.COMPLETED, "completed", _summary(fact)
    if isinstance(fact, AttemptFailed) and fact.task_id is not None:
        return fact.task_id, TaskEnd.FAILED, fact.reason.value, fact.message
    if isinstance(fact, AttemptCancelled) and fact.task_id is not None:
        return fact.task_id, TaskEnd.STOPPED, fact.reason.value, fact.message
    return None


def _fact(job: Job, outcome: Outcome, worker: str) -> AttemptSucceeded | AttemptFailed | AttemptCancelled:
    common: dict[str, Any] = {
        "run_id": job.run_id,
        "attempt": job.attempt,
        "task_id": job.task.id,
        "claim": job.claim,
        "worker": worker,
    }
    if isinstance(outcome, Succeeded):
        return AttemptSucceeded(**common, results=bounded(outcome.results))
    if isinstance(outcome, Failed):
        return AttemptFailed(
            **common,
            reason=outcome.reason,
            detail=outcome.detail or None,
            message=outcome.message[:MAX_MESSAGE],
            results=bounded(outcome.results),
        )
    if outcome.reason is Reason.USER:
        return AttemptCancelled(**common, reason=Reason.USER, message=outcome.message[:MAX_MESSAGE])
    message = outcome.message or _stopped(outcome, worker)
    return AttemptFailed(**common, reason=outcome.reason, message=message[:MAX_MESSAGE])


def _stopped(outcome: Stopped, worker: str) -> str:
    if outcome.reason is Reason.HOST_SHUTDOWN:
        return f"The worker {worker} was shut down."
    return f"The attempt was ended: {outcome.reason.value}."


def ordered(lease: Lease) -> Stopped:
    """The outcome of work that ended because of the lease's order. (Where that is Void, nobody will be told.)"""
    order = lease.order
    if isinstance(order, Stop):
        why = f"cancelled by {order.actor}" + (f": {order.message}" if order.message else "")
        return Stopped(order.reason, why)
    return Stopped(Reason.WORKER_LOST)


def _summary(fact: AttemptSucceeded) -> str:
    metric, value = fact.results.get("metric"), fact.results.get("value")
    return f"{metric} {value:.6g}" if isinstance(value, int | float) else "trained"
