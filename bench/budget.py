"""What becomes of a time budget: how long the fit of a run takes, on data that would keep a trainer busy for longer."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench._stand import stand
from bench._worker import Runs, example, worker
from trainyard_schemas.events import AttemptSucceeded

BUDGET_S = 30
FIT_BOUND_S = 33.0
_QUEUE = "budgets"
_TRAINERS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "flaml": (20_000, 21, {}),
    "autogluon": (20_000, 21, {}),
    "sklearn": (200_000, 60, {"sklearn": {"estimator": "random_forest"}}),
}
"""Rows, columns and arguments of each; a fifth of the rows is held out."""


def write_csv(path: Path, rows: int, columns: int) -> None:
    """Noisy data of two classes; the label stands in column `y`."""
    random = np.random.default_rng(7)
    values = random.normal(size=(rows, columns)).astype("float32")
    labels = (values[:, :5].sum(axis=1) + random.normal(size=rows) > 0).astype(int)
    header = ",".join([*(f"x{number}" for number in range(columns)), "y"])
    np.savetxt(
        path,
        np.column_stack([values, labels]),
        fmt=["%.4f"] * columns + ["%d"],
        delimiter=",",
        header=header,
        comments="",
    )


def main() -> int:
    """Print one line; exit 1 where a fit took longer than its bound, or a run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainers", nargs="+", choices=sorted(_TRAINERS), default=sorted(_TRAINERS))
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder,
        stand(delay="real", queues=(_QUEUE,), max_queue_depth=8) as where,
        worker(where, Path(folder), "--queues", _QUEUE, TRAINYARD_DATA_ROOTS=folder) as _,
    ):
        runs = Runs(where)
        ids = {}
        for trainer in options.trainers:
            rows, columns, extras = _TRAINERS[trainer]
            path = Path(folder) / f"{trainer}.csv"
            write_csv(path, rows, columns)
            request = example(f"breast-cancer-{trainer}", queue=_QUEUE, time_budget_s=BUDGET_S, extras=extras)
            dataset = {**request["dataset"], "uri": str(path), "label": "y"}
            ids[trainer] = runs.ask(trainer, {**request, "dataset": dataset})
            runs.wait_for_the_end({ids[trainer]}, 300)
        results = {e.fact.run_id: e.fact.results for e in runs.events if isinstance(e.fact, AttemptSucceeded)}
    seconds: dict[str, float] = {}
    for trainer, run_id in ids.items():
        found: Any = results.get(run_id, {}).get("seconds") or {}
        seconds[trainer] = round(float(found.get("fit", "inf")), 1)
    ok = max(seconds.values()) <= FIT_BOUND_S
    figures = {"bench": "budget", "time_budget_s": BUDGET_S, "fit_s": seconds, "bounds": {"fit_s": FIT_BOUND_S}}
    print(json.dumps({**figures, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
