"""From an attempt that is queued to the first line of its fit, one run after the other, on a worker that is warm; and
beside it, on the same server, from a task's enqueueing to its first line under an ordinary clearml-agent."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import agent
from bench._stand import stand
from bench._worker import RunningWorker, Runs, example, worker
from trainyard_schemas.vocabulary import EventType

MEDIAN_BOUND_S = 0.3
P95_BOUND_S = 1.0
_QUEUE = "attempts"
_REQUESTS: dict[str, dict[str, Any]] = {
    "flaml": example("wine-flaml", queue=_QUEUE, time_budget_s=1),
    "sklearn": example("wine-sklearn", queue=_QUEUE),
    "autogluon": example(
        "wine-autogluon", queue=_QUEUE, extras={"autogluon": {"fit_args": {"hyperparameters": {"LR": {}}}}}
    ),
}


def measure(trainer: str, count: int, runs: Runs, at_work: RunningWorker) -> dict[str, Any]:
    """The waits of `count` runs of one trainer, after one that warms up."""
    ids = []
    for number in range(count + 1):
        ids.append(runs.ask(f"{trainer}-{number}", _REQUESTS[trainer]))
        runs.wait_for_the_end(set(ids), 120)
    queued, outcomes = runs.queued_at(), runs.outcomes()
    fits = {line["run_id"]: line["at"] for line in at_work.lines("phase") if line["phase"] == "fit"}
    waits_s = [fits[run_id] - queued[run_id] for run_id in ids]
    warm_s = sorted(waits_s[1:])
    return {
        "runs": count,
        "succeeded": sum(outcomes[run_id] == EventType.ATTEMPT_SUCCEEDED.value for run_id in ids[1:]),
        "first_s": round(waits_s[0], 3),
        "median_s": round(statistics.median(warm_s), 3),
        "p95_s": round(statistics.quantiles(warm_s, n=20, method="inclusive")[18], 3),
        "max_s": round(warm_s[-1], 3),
    }


def main() -> int:
    """Print one line; exit 1 where a trainer's median or 95th percentile is over its bound, or a run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of each trainer, after one that warms up")
    parser.add_argument("--agent-tasks", type=int, default=5, help="tasks of the clearml-agent beside it; 0: none")
    parser.add_argument("--trainers", nargs="+", choices=sorted(_REQUESTS), default=sorted(_REQUESTS))
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-bench-", ignore_cleanup_errors=True) as folder,
        stand(delay="real", queues=(_QUEUE,), max_queue_depth=8) as where,
    ):
        with worker(where, Path(folder), "--queues", _QUEUE) as at_work:
            runs = Runs(where)
            figures = {trainer: measure(trainer, options.runs, runs, at_work) for trainer in options.trainers}
        beside: dict[str, Any] = {}
        if options.agent_tasks:
            files = where.environment["CLEARML_FILES_HOST"]
            beside = agent.measure(where.api, files, Path(folder), options.agent_tasks, agent.POLLING_S)
            slowest_s = max(found["median_s"] for found in figures.values())
            beside["times_ours"] = round(beside["enqueued_to_first_line_median_s"] / slowest_s, 1)
    ok = all(
        found["median_s"] <= MEDIAN_BOUND_S and found["p95_s"] <= P95_BOUND_S and found["succeeded"] == found["runs"]
        for found in figures.values()
    )
    bounds = {"median_s": MEDIAN_BOUND_S, "p95_s": P95_BOUND_S}
    print(json.dumps({"bench": "attempt", **figures, "clearml_agent": beside, "bounds": bounds, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
