"""Short runs on a few slots: how long a slot is idle while an attempt waits in the queue."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench._stand import stand
from bench._worker import Runs, example, worker
from trainyard_schemas.vocabulary import EventType

IDLE_BOUND_S = 0.5
_QUEUE = "slots"
Span = tuple[float, float]


def idle_spans(busy: Sequence[Span], begin: float, end: float) -> Iterator[Span]:
    """When a slot with these busy spans had nothing, between `begin` and `end`."""
    edges = [begin, *itertools.chain.from_iterable(sorted(busy)), end]
    return ((left, right) for left, right in zip(edges[::2], edges[1::2], strict=True) if left < right)


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same time in spans that do not touch."""
    found: list[Span] = []
    for left, right in sorted(spans):
        if found and left <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], right))
        else:
            found.append((left, right))
    return found


def longest_while_waiting(idle: Sequence[Span], waits: Sequence[Span]) -> float:
    """The longest part of an idle span during which attempts waited."""
    shared = (min(a[1], b[1]) - max(a[0], b[0]) for a in idle for b in merged(waits))
    return max((seconds for seconds in shared if seconds > 0), default=0.0)


def main() -> int:
    """Print one line; exit 1 where a slot was idle for too long while an attempt waited, or a run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    request = example("wine-sklearn", queue=_QUEUE)
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder,
        stand(delay="real", queues=(_QUEUE,), max_queue_depth=options.runs) as where,
        worker(where, Path(folder), "--queues", _QUEUE, "--slots", str(options.slots)) as at_work,
    ):
        runs = Runs(where)
        runs.wait_for_the_end({runs.ask("warm-up", request)}, 120)
        ids = {runs.ask(f"run-{number}", request) for number in range(options.runs)}
        runs.wait_for_the_end(ids, 300)
        queued, outcomes = runs.queued_at(), runs.outcomes()
        tasks = runs.tasks()
        pops, ends = at_work.lines("pop"), at_work.lines("handle")
    popped = {line["task_id"]: line for line in pops}
    handled = {line["task_id"]: line["at"] for line in ends}
    begin = min(queued[run_id] for run_id in ids)
    end = max(popped[tasks[run_id]]["at"] for run_id in ids)
    busy: dict[str, list[Span]] = {line["worker"]: [] for line in pops}
    for run_id in ids:
        line = popped[tasks[run_id]]
        busy[line["worker"]].append((line["at"], handled.get(line["task_id"], float("inf"))))
    waits = [(queued[run_id], popped[tasks[run_id]]["at"]) for run_id in ids]
    idle_s = {name: longest_while_waiting(list(idle_spans(spans, begin, end)), waits) for name, spans in busy.items()}
    succeeded = sum(outcomes[run_id] == EventType.ATTEMPT_SUCCEEDED.value for run_id in ids)
    figures = {
        "bench": "slots",
        "runs": options.runs,
        "succeeded": succeeded,
        "runs_of_slot": {name: len(spans) for name, spans in busy.items()},
        "idle_while_work_s": {name: round(value, 3) for name, value in idle_s.items()},
        "seconds": round(max(handled.values()) - begin, 2),
        "bounds": {"idle_while_work_s": IDLE_BOUND_S},
    }
    ok = succeeded == options.runs and len(busy) == options.slots and max(idle_s.values()) <= IDLE_BOUND_S
    print(json.dumps({**figures, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
