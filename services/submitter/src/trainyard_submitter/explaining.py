"""Why a run is where it is, in plain words: pure, from the folded state and what is known of the queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainyard_schemas.codec import printable
from trainyard_schemas.events import AttemptLost
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason, RunPhase
from trainyard_submitter import runs_view
from trainyard_submitter.following import Followed

# Longer than this between two signs of life (one comes every 10 s), and something is wrong.
SILENT_S = 30.0

_REMEDIES: Mapping[Reason, str] = {
    Reason.USER: "If that was not meant, start it again with `trainyard runs retry {run}`.",
    Reason.DEADLINE: "Give it a larger deadline_s, or a smaller time_budget_s.",
    Reason.QUEUE_TIMEOUT: "No worker took it within its queue_ttl_s: start a worker for its queue, or give it longer.",
    Reason.WORKER_LOST: "Its workers died or lost the network: look at their logs, then `trainyard runs retry {run}`.",
    Reason.HOST_SHUTDOWN: "Its worker was shut down: try again with `trainyard runs retry {run}`.",
    Reason.OUT_OF_MEMORY: "Use fewer rows or columns, or a worker that allows more memory.",
    Reason.INVALID_REQUEST: "Correct the named field of the request and submit it again.",
    Reason.UNSUPPORTED_VERSION: "Send a schema_version that this installation reads.",
    Reason.INVALID_DATASET: "Correct the data (or its label) as the message says, and submit it again.",
    Reason.DATASET_UNREACHABLE: "See that the worker can reach the data, then `trainyard runs retry {run}`.",
    Reason.MODEL_UNAVAILABLE: "See that the worker can reach the base model, then `trainyard runs retry {run}`.",
    Reason.TRAINER_ERROR: "The training library gave up: its console is in `trainyard runs logs {run}`.",
    Reason.CLEARML_REJECTED: "ClearML refused it: see the dispatcher's log for the call.",
    Reason.INTERNAL: "That is a defect of Trainyard: `trainyard runs logs {run}` and the worker's log hold the trace.",
}


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A run's queue in ClearML now: the workers that serve it, and how many tasks are before ours (None: ours is not
    in it)."""

    workers: Sequence[str]
    ahead: int | None


def why(history: Sequence[Followed], now: float, queue: QueueFacts | None = None, silent_s: float | None = None) -> str:
    """One paragraph. `history` is the run's, in log order; `queue` is None where ClearML did not say, `silent_s` the
    time since the worker's last sign of life, None where unknown."""
    state = next((followed.state for followed in reversed(history) if followed.state is not None), None)
    if state is None:
        return "Nothing is known of this run yet: intake has not read its request."
    parts = [_where(state, now, queue), _tries(state, history)]
    if state.phase is RunPhase.STARTED and silent_s is not None and silent_s > SILENT_S:
        parts.append(
            f"It has given no sign of life for {runs_view.ago(silent_s)}; after 90 s of silence it is taken for lost"
            " and another worker takes over."
        )
    if state.cancel_actor is not None and not state.is_ended:
        said = f" ({printable(state.cancel_message, 200)})" if state.cancel_message else ""
        parts.append(f"{printable(state.cancel_actor)} asked to cancel it{said}; that is on its way.")
    return " ".join(part for part in parts if part)


def waits_for(state: RunState | None) -> str:
    """What a run that is not heard of waits for, in half a sentence."""
    if state is None:
        return "still waiting for intake to answer; is the dispatcher running? (`trainyard status`)"
    match state.phase:
        case RunPhase.ACCEPTED:
            return "still waiting for the planner to make its ClearML task"
        case RunPhase.DISPATCHED:
            return f"still waiting in queue {printable(state.queue)} for a worker (`trainyard why {state.run_id[:8]}`)"
        case RunPhase.STARTED:
            return f"still at work on {printable(state.worker)}, without news"
        case RunPhase.ATTEMPT_FAILED | RunPhase.ATTEMPT_LOST:
            return "still waiting for the next attempt"
        case _:
            return "still waiting for the planner to close the run"


def _where(state: RunState, now: float, queue: QueueFacts | None) -> str:
    match state.phase:
        case RunPhase.COMPLETED:
            score = runs_view.score(state.results or {})
            return f"It completed{f' with {score}' if score else ''} in attempt {state.attempt}."
        case RunPhase.FAILED | RunPhase.REJECTED | RunPhase.CANCELLED:
            return _ended(state)
        case RunPhase.ACCEPTED:
            since = runs_view.ago(now - state.accepted_at)
            return (
                f"It was accepted {since} ago and waits for its turn: the planner keeps a ClearML queue only so deep,"
                " and takes the highest priority first (`trainyard runs prioritise`)."
            )
        case RunPhase.DISPATCHED:
            return _queued(state, now, queue)
        case RunPhase.STARTED:
            since = runs_view.ago(now - (state.started_at or now))
            return f"{printable(state.worker)} has been training it for {since} (attempt {state.attempt})."
        case RunPhase.ATTEMPT_SUCCEEDED:
            return f"Attempt {state.attempt} succeeded; the planner is about to close the run."
        case RunPhase.ATTEMPT_CANCELLED:
            return f"Attempt {state.attempt} was cancelled; the planner is about to close the run."
        case _:
            return _between(state)


def _queued(state: RunState, now: float, queue: QueueFacts | None) -> str:
    since = runs_view.ago(now - (state.queued_at or state.dispatched_at or now))
    waits = f"It has waited for {since} in ClearML's queue {printable(state.queue)}"
    if queue is None:
        return f"{waits}. (ClearML was not asked who serves that queue.)"
    place = "" if queue.ahead is None else f", with {queue.ahead} before it"
    if not queue.workers:
        return (
            f"{waits}{place}, and no worker serves that queue: start one with"
            f" `trainyard worker --queues {printable(state.queue)}`, or cancel it and name another queue."
        )
    names = ", ".join(printable(name, 60) for name in queue.workers[:3])
    more = f" and {len(queue.workers) - 3} more" if len(queue.workers) > 3 else ""
    verb = "serves" if len(queue.workers) == 1 else "serve"
    return f"{waits}{place}; {names}{more} {verb} that queue, and will take it when free."


def _between(state: RunState) -> str:
    reason = state.reason.value if state.reason else "unknown"
    said = f" ({printable(state.message, 300)})" if state.message else ""
    if state.phase is RunPhase.ATTEMPT_LOST:
        return (
            f"The worker of attempt {state.attempt} was lost{said}; the next attempt starts once it has certainly"
            " stopped, about a minute after."
        )
    return f"Attempt {state.attempt} failed: {reason}{said}; the planner decides whether there is another one."


def _ended(state: RunState) -> str:
    reason = runs_view.why(state.reason.value if state.reason else "unknown", state.detail, state.message)
    remedy = _REMEDIES[state.reason].format(run=state.run_id[:8]) if state.reason else ""
    if state.phase is RunPhase.CANCELLED and state.cancel_actor is not None:
        said = f": {printable(state.cancel_message, 200)}" if state.cancel_message else ""
        return f"{printable(state.cancel_actor)} cancelled it{said}. {remedy}".rstrip()
    ended = "It failed" if state.phase is RunPhase.FAILED else f"It was {state.phase.value}"
    return f"{ended}: {printable(reason, 400).rstrip('.')}. {remedy}".rstrip()


def _tries(state: RunState, history: Sequence[Followed]) -> str:
    if state.attempt < 2:
        return ""
    lost = sum(1 for followed in history if isinstance(followed.event.fact, AttemptLost) and followed.counts)
    before = state.attempt - 1
    times = "once" if before == 1 else f"{before} times"
    return f"It was retried {times}{f' ({lost} lost with the worker)' if lost else ''}."
