"""What a campaign must have met before its silence means anything: every fault at every effect, and every window."""

from __future__ import annotations

from collections import Counter

from trainyard_schemas.lifecycle import Verdict
from trainyard_simulation.faults import DEATHS, LOSSES, PAUSES, Fault
from trainyard_simulation.users import ACTS

APPENDS = (
    "append run.accepted",
    "append run.rejected",
    "append run.cancel_requested",
    "append run.reprioritised",
    "append dead letter",
    "append attempt.dispatched",
    "append attempt.queued",
    "append attempt.started",
    "append attempt.succeeded",
    "append attempt.failed",
    "append attempt.cancelled",
    "append attempt.lost",
    "append run.completed",
    "append run.failed",
    "append run.cancelled",
    "append to completed",
    "append heartbeat",
)
CLEARML_EFFECTS = (
    "pop",
    "tasks.create",
    "tasks.enqueue",
    "tasks.started",
    "tasks.close",
    "tasks.delete",
    "models.create",
    "worker reveals model",
    "worker closes task",
)
RARE_EFFECTS = ("tasks.reset", "models.reveal", "models.delete")
"""Too rare for every fault to befall each of them in one campaign; that they happen is asked below."""

READS = (
    "fetch",
    "fetch command",
    "read committed offsets",
    "read ends",
    "read lifecycle",
    "read origin",
    "read heartbeats",
    "survey",
    "tasks.find",
    "tasks.status",
)
WINDOWS = ("S2", "I1", "I2", "I3", "D1", "D2", "D3", "D4", "D5", "D6", "O1", "O2")
EVENTS = (
    "rebalance",
    "intake: member expired",
    "planner: member expired",
    "copier: member expired",
    "planner leads again",
    "a planner that has lost the lead acts",
    "commit of an older generation refused",
    "broker is away",
    "clearml is away",
    "a worker is cut off",
    "a whole host pauses",
    "a resumed host computes before its watchdog fires",
    "training frozen",
    "training ended by an order",
    "publishing ended by an order",
    "heartbeat lost",
    "706: already in this queue",
    "second entry, of a task that was queued",
    "second entry, of a task that was failed",
    "second entry, of a task that was stopped",
    "outbox replayed after a restart",
    "command: run.cancel_requested",
    "command: run.reprioritised",
    "command refused: invalid_field",
    "command refused: run_ended",
    *(f"user: {act}" for act in ACTS),
    *(f"action {name}" for name in ("Adopt", "Reset", "Close", "Delete", "Requeue", "Reveal", "DeleteModel")),
    *(
        f"worker: {handled}"
        for handled in (
            "gone",
            "foreign",
            "asked",
            "claim_lost",
            "not_dispatched",
            "succeeded",
            "failed",
            "cancelled",
            "superseded",
            "stopped",
        )
    ),
)
VERDICTS = tuple(v for v in Verdict if v not in (Verdict.UNKNOWN_RUN, Verdict.WRONG_TASK))
"""All but those that no writer of this world can cause: it writes nothing about runs that it has not read."""


def expected() -> tuple[str, ...]:
    """The names of all counters that a large campaign must have moved."""
    effects = (*APPENDS, *CLEARML_EFFECTS, "append request", "commit")
    mortal = (*APPENDS, *CLEARML_EFFECTS, "commit", *READS)
    return (
        *(f"{fault.value}: {effect}" for effect in effects for fault in LOSSES),
        *(f"{Fault.ABSENT.value}: {read}" for read in READS),
        *(f"{fault.value}: {label}" for label in mortal for fault in DEATHS),
        *(f"{fault.value}: {label}" for label in mortal for fault in PAUSES),
        *(f"window {name}" for name in WINDOWS),
        *(f"verdict {verdict.value}" for verdict in VERDICTS),
        *EVENTS,
    )


def never_met(coverage: Counter[str]) -> list[str]:
    """Those of `expected` that a campaign did not meet."""
    return [name for name in expected() if not coverage[name]]
