"""What a training child's end means. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_events import tells_of_no_memory
from trainyard_trainer_worker.fork_servers import LOST
from trainyard_trainer_worker.spec import Detail, Failed, Outcome, Stopped, Succeeded, clean


@dataclass(frozen=True, slots=True)
class End:
    """What the parent knows of a child that has ended.

    `found` is the outcome that it left. `over_memory_bytes` is what its processes held when they were killed for it.
    `oom_killed`: the kernel killed for want of memory meanwhile; None: it does not tell.
    """

    status: int
    found: Outcome | None
    stopped: Reason | None
    overran: bool
    elapsed_s: float
    deadline_s: float
    last_said: str
    memory_limit_bytes: int | None
    over_memory_bytes: int | None
    oom_killed: bool | None


def judge(end: End) -> Outcome:
    """Our own stop first, then our limits, then what the child left, then how it died."""
    if end.stopped is not None:
        return Stopped(end.stopped)
    if end.over_memory_bytes is not None and not isinstance(end.found, Succeeded):
        return Failed(
            Reason.OUT_OF_MEMORY,
            Detail.MEMORY,
            f"the training's processes held {end.over_memory_bytes} bytes of memory and were ended; the limit is "
            f"{end.memory_limit_bytes} bytes. Use less data or a lighter estimator, or raise the worker's limit",
        )
    if end.overran and not isinstance(end.found, Succeeded):
        return Failed(
            Reason.DEADLINE,
            Detail.ATTEMPT_DEADLINE,
            f"the attempt was ended after {end.elapsed_s:.1f} s; deadline_s is {end.deadline_s:g}. "
            "Raise deadline_s or lower time_budget_s",
        )
    return end.found if end.found is not None else _died(end)


def _died(end: End) -> Failed:
    said = f"; it last said: {clean(end.last_said, 400)}" if end.last_said else ""
    if end.status == LOST:
        return Failed(
            Reason.INTERNAL,
            Detail.CHILD_DIED,
            f"the training ended with the worker's fork server, which died; the worker starts a new one{said}",
        )
    if end.status != -signal.SIGKILL:
        how = f"with status {end.status}" if end.status >= 0 else f"by {signal.Signals(-end.status).name}"
        message = f"the training process ended {how} and left no outcome{said}"
        if tells_of_no_memory(end.last_said):
            limit = "" if end.memory_limit_bytes is None else f" (limit: {end.memory_limit_bytes} bytes)"
            return Failed(
                Reason.OUT_OF_MEMORY,
                Detail.MEMORY,
                f"memory ran out{limit}; use less data or a lighter estimator: {message}",
            )
        return Failed(Reason.TRAINER_ERROR, Detail.CHILD_DIED, message)
    if end.oom_killed is False:
        message = (
            "the training process was killed (SIGKILL) from outside: not by us, and the system counts no kill for want "
            f"of memory{said}"
        )
        return Failed(Reason.TRAINER_ERROR, Detail.CHILD_DIED, message)
    sure = "the system ran out of memory" if end.oom_killed else "most likely the system ran out of memory"
    return Failed(
        Reason.OUT_OF_MEMORY,
        Detail.CHILD_DIED,
        f"the training process was killed (SIGKILL) and not by us: {sure}. Use less data or a lighter estimator{said}",
    )
