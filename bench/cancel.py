"""From a cancel's acknowledgement until the training process is gone, in the middle of a fit."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench._stand import stand, wait_until
from bench._worker import RunningWorker, Runs, example, worker
from trainyard_schemas.vocabulary import EventType

GONE_BOUND_S = 2.0
_QUEUE = "cancels"


def is_gone(process: psutil.Process) -> bool:
    """Whether the process has ended."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def measure(number: int, runs: Runs, at_work: RunningWorker) -> tuple[str, float]:
    """One run that is cancelled as it fits; its id, and the seconds until its process was gone."""
    run_id = runs.ask(f"cancel-{number}", example("wine-flaml", queue=_QUEUE, time_budget_s=300))

    def fits() -> bool:
        return any(line["run_id"] == run_id and line["phase"] == "fit" for line in at_work.lines("phase"))

    wait_until(fits, "the run fits", 60)
    child = at_work.child()
    if child is None:
        raise RuntimeError("the run fits, and no process of it is there")
    ordered_at = runs.order(run_id, "cancel")
    wait_until(lambda: is_gone(child), "the process is gone", 60)
    seconds = time.monotonic() - ordered_at
    runs.wait_for_the_end({run_id}, 60)
    return run_id, seconds


def main() -> int:
    """Print one line; exit 1 where a cancel took longer than its bound, or a run ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder,
        stand(delay="real", queues=(_QUEUE,), max_queue_depth=8) as where,
        worker(where, Path(folder), "--queues", _QUEUE) as at_work,
    ):
        runs = Runs(where)
        waits_s = dict(measure(number, runs, at_work) for number in range(options.runs))
        outcomes = runs.outcomes()
    cancelled = sum(outcomes[run_id] == EventType.ATTEMPT_CANCELLED.value for run_id in waits_s)
    figures = {
        "bench": "cancel",
        "runs": options.runs,
        "cancelled": cancelled,
        "median_s": round(statistics.median(waits_s.values()), 2),
        "max_s": round(max(waits_s.values()), 2),
        "bounds": {"max_s": GONE_BOUND_S},
    }
    ok = cancelled == options.runs and max(waits_s.values()) <= GONE_BOUND_S
    print(json.dumps({**figures, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
