"""What one incarnation of a planner has learnt of ClearML on the way, and the limits that it keeps to.

All of it may be lost at any moment: a planner that knows nothing looks first and then acts.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainyard_dispatcher.ports import TaskStatus


@dataclass(frozen=True, slots=True)
class Known:
    """What this planner knows of one run's ClearML task beyond the log; the default knows nothing.

    `attempt` and `task_id` name the task that was created or found, `status` what it was when last seen (None: look
    again). `must_search`: a create may have happened, so look before creating. `appended_at`: a fact was appended when
    the run's state stood at that offset; until `visible_by` wait for the state to move on, then append it again.
    `retry_at`: no action before it. Times in seconds; these on the wall clock, the following on the steady one.

    From the surveys: `seen_claim` is the claim that the log showed when the survey was sent that saw `status`;
    `absent_since` when a `queued` task was first seen in no queue; `alive_mark` ClearML's own last sign of life of the
    task, `alive_at` when that was last seen to change; `was_reset_by_us` that the task bears our tag of a reset.
    `resets` counts how often this planner gave the task back to its queue after somebody else had run it.
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
    seen_claim: str | None = None
    absent_since: float | None = None
    alive_mark: str = ""
    alive_at: float = 0.0
    was_reset_by_us: bool = False
    resets: int = 0


NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a planner keeps to; times in seconds.

    `max_queue_depth` bounds the runs that stand in one ClearML queue: the backlog stays in Kafka, where order and
    priority can still change. `close_grace_s`: how long a worker may take to close its task by itself. `lease_s`: how
    long a worker may train without having read the log (R). `silence_s`: how long a worker may give no sign of life.
    `pop_grace_s`: how long a popped task may go unclaimed. `agent_grace_s`: the same where ClearML shows that somebody
    has begun it, since ClearML's last sign of life: an agent may still be building its environment. `cancel_grace_s`:
    how long a worker may take to end a run that was cancelled.
    """

    max_queue_depth: int = 100
    close_grace_s: float = 15.0
    lease_s: float = 60.0
    silence_s: float = 90.0
    pop_grace_s: float = 30.0
    agent_grace_s: float = 300.0
    cancel_grace_s: float = 30.0


LEASE_DRIFT = 1.02
LEASE_MARGIN_S = 2.0


def lease_is_over_after_s(lease_s: float) -> float:
    """How long after reading `attempt.lost` its worker has certainly stopped training: two clocks may drift by a few
    parts in a million; 2 % and 2 s are far beyond that."""
    return lease_s * LEASE_DRIFT + LEASE_MARGIN_S
