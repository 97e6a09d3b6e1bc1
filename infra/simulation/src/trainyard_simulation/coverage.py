"""What a campaign must have met before its silence means anything: every fault at every effect, and every window."""

from __future__ import annotations

from collections import Counter

from trainyard_schemas.lifecycle import Verdict
from trainyard_simulation.faults import DEATHS, LOSSES, PAUSES, Fault

APPENDS = (
    "append run.accepted",
    "append run.rejected",
    "append dead letter",
    "append attempt.dispatched",
    "append attempt.queued",
    "append attempt.started",
    "append attempt.succeeded",
    "append attempt.failed",
    "append run.completed",
    "append run.failed",
    "append to completed",
)
CLEARML_EFFECTS = ("tasks.create", "tasks.enqueue", "tasks.started", "worker closes task")
RARE_EFFECTS = ("tasks.close",)
READS = ("fetch", "read committed offsets", "read ends", "read lifecycle", "read origin", "tasks.find", "tasks.status")
SHIELDED = ("append attempt.started", "tasks.started", "read lifecycle")
"""Where a process may not die yet: a worker that holds a claim (rule 5 is what recovers from that)."""

WINDOWS = ("S2", "I1", "I2", "I3", "D1", "D2", "D3", "D4", "D5", "D6", "O1", "O2")
EVENTS = (
    "rebalance",
    "intake: member expired",
    "planner: member expired",
    "copier: member expired",
    "planner leads again",
    "a planner that has lost the lead acts",
    "commit of an older generation refused",
    "706: already in this queue",
    "second entry, of a task that was queued",
    "second entry, of a task that was failed",
    "outbox replayed after a restart",
    "worker: claim_lost",
    "worker: not_dispatched",
    "worker: succeeded",
    "worker: failed",
    "worker: stopped",
)
VERDICTS = tuple(v for v in Verdict if v not in (Verdict.UNKNOWN_RUN, Verdict.WRONG_TASK))
"""All but those that no writer of this world can cause: it writes nothing about runs that it has not read."""


def expected() -> tuple[str, ...]:
    """The names of all counters that a large campaign must have moved."""
    effects = (*APPENDS, *CLEARML_EFFECTS, "append request", "commit")
    mortal = tuple(e for e in (*APPENDS, *CLEARML_EFFECTS, "commit", *RARE_EFFECTS, *READS) if e not in SHIELDED)
    return (
        *(f"{fault.value}: {effect}" for effect in effects for fault in LOSSES),
        *(f"{Fault.ABSENT.value}: {read}" for read in READS),
        *(f"{fault.value}: {label}" for label in mortal for fault in DEATHS),
        *(f"{fault.value}: {label}" for label in (*APPENDS, *CLEARML_EFFECTS, "commit", *READS) for fault in PAUSES),
        *(f"window {name}" for name in WINDOWS),
        *(f"verdict {verdict.value}" for verdict in VERDICTS),
        *EVENTS,
    )


def never_met(coverage: Counter[str]) -> list[str]:
    """Those of `expected` that a campaign did not meet."""
    return [name for name in expected() if not coverage[name]]
