"""What a minute's training costs beside itself: the worker's own processor seconds while it follows one FLAML run.

The worker reads the child's console and progress, and sends heartbeats, console lines, scalars, plots, model and
outcome. Its processor seconds are counted from the attempt's claim to its end, what it uses when idle included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from bench._stand import stand, wait_until
from bench._worker import Runs, example, worker
from trainyard_schemas.events import AttemptSucceeded

SHARE_BOUND = 0.03
_QUEUE = "tracking"


def own_seconds(pid: int) -> float:
    """Processor seconds that the process itself has used, its children left out."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Print one line; exit 1 where tracking took too large a share, or the run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="time budget of the run")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder,
        stand(delay="real", queues=(_QUEUE,), max_queue_depth=8) as where,
        worker(where, Path(folder), "--queues", _QUEUE) as at_work,
    ):
        runs = Runs(where)
        runs.wait_for_the_end({runs.ask("warm-up", example("wine-flaml", queue=_QUEUE, time_budget_s=1))}, 120)
        wait_until(lambda: len(at_work.lines("handle")) == 1, "the warm-up is over", 30)
        before_s = own_seconds(at_work.pid)
        run_id = runs.ask("run", example("wine-flaml", queue=_QUEUE, time_budget_s=options.seconds))
        runs.wait_for_the_end({run_id}, options.seconds + 120)
        wait_until(lambda: len(at_work.lines("handle")) == 2, "the run is over", 30)
        tracking_s = own_seconds(at_work.pid) - before_s
        results: list[Any] = [
            e.fact.results for e in runs.events if e.fact.run_id == run_id and isinstance(e.fact, AttemptSucceeded)
        ]
    training_s = float(results[0]["cpu_seconds"]) if results else 0.0
    share = tracking_s / training_s if training_s else float("inf")
    ok = bool(results) and share <= SHARE_BOUND
    figures = {
        "bench": "tracking",
        "time_budget_s": options.seconds,
        "training_cpu_s": round(training_s, 2),
        "tracking_cpu_s": round(tracking_s, 2),
        "share": round(share, 4),
        "bounds": {"share": SHARE_BOUND},
    }
    print(json.dumps({**figures, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
