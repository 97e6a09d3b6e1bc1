"""Keeping a claim: read the log again and again while the attempt trains and publishes.

`keep` runs beside the work (`ports.beside`) and is cancelled when the work has ended. It never decides what becomes of
the attempt: it renews the lease or passes on what the log orders. Awaits ports only.
"""

from __future__ import annotations

from typing import Final

from trainyard_runtime.kafka.records import LogUnavailable
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason, RunPhase
from trainyard_trainer_worker.insisting import folded
from trainyard_trainer_worker.lease import Lease, Stop, Void
from trainyard_trainer_worker.ports import Ending, Job, Ports

RENEWALS_PER_LEASE: Final = 6.0
"""A lease of 60 s is renewed every 10 s: five reads may fail before training freezes."""


def claim_won(state: RunState | None, attempt: int, claim: str) -> bool:
    """True while `claim` holds the attempt."""
    return state is not None and state.phase is RunPhase.STARTED and state.attempt == attempt and state.claim == claim


def order_of(state: RunState | None, attempt: int, claim: str) -> Stop | Void | None:
    """What the log orders the holder of `claim`; None: go on."""
    if not claim_won(state, attempt, claim) or state is None:
        phase = "unknown" if state is None else state.phase.value
        return Void(f"the log has the run as {phase}, attempt {0 if state is None else state.attempt}")
    if state.cancel_actor is not None:
        return Stop(Reason.USER, state.cancel_actor, state.cancel_message)
    return None


async def keep(job: Job, lease: Lease, state: RunState, next_offset: int, ports: Ports) -> None:
    """Renew `lease` until the claim is void; ends then, or when the process ends, else when it is cancelled.

    Reads when a sixth of the lease has passed, and as soon as there is news of the run. `state` is the run's at
    `next_offset`.
    """
    tries = 0
    current: RunState | None = state
    try:
        while True:
            if tries:
                await ports.patience.wait(tries)
            else:
                await ports.patience.news(job.run_id, job.lease_s / RENEWALS_PER_LEASE)
            sent_at = ports.patience.steady()
            try:
                records = await ports.log.read_run(job.run_id, next_offset)
            except LogUnavailable:
                tries += 1
                continue
            tries = 0
            current, next_offset = folded(current, records), records.next_offset
            order = order_of(current, job.attempt, job.claim)
            if not isinstance(order, Void):
                lease.renew(sent_at)
            if order is not None:
                lease.give(order)
            if lease.is_void:
                return
    except Ending:
        return
