"""`python -m trainyard_trainer_worker.training.verify ARCHIVE`: does a packed model still predict as it did?

Reads the archive with every hash checked, loads the model in this clean process, predicts the sample and compares.
Prints one line of JSON; exits 0 when all agree, 1 when not, 2 for wrong usage. With `--wait` the libraries are loaded
first and the archive's path and SHA-256 are then read as one line of JSON from standard input.

Loading a model runs code: verify only archives whose origin you trust (give `--sha256`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from trainyard_trainer_worker.processes import die_with_parent
from trainyard_trainer_worker.training import frames, loading, packing
from trainyard_trainer_worker.training.evaluation import Predictions, predict

TOLERANCE = 1e-6


def verify(path: Path, expected_sha256: str | None = None) -> dict[str, Any]:
    """The verdict on one archive: `ok`, `rows`, `max_difference` (relative), `seconds`, `problem`."""
    started = time.monotonic()
    try:
        archive = packing.read(path, expected_sha256)
        rows = archive.sample["rows"]
        expected = Predictions(
            np.asarray(archive.sample["values"]),
            None
            if archive.sample["probabilities"] is None
            else np.asarray(archive.sample["probabilities"], dtype=np.float64),
        )
        with tempfile.TemporaryDirectory(prefix="model-", dir=path.resolve().parent) as folder:
            model = loading.load(archive, Path(folder))
            actual = predict(model, frames.from_records(rows, archive.columns), len(archive.manifest["classes"]))
    except packing.BadArchive as error:
        return {"ok": False, "problem": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a model does when it loads or predicts, the verdict is: not ok
        return {"ok": False, "problem": f"the model cannot be loaded or asked: {type(error).__name__}: {error}"[:500]}
    difference = _difference(expected, actual)
    problem = None
    if difference > TOLERANCE:
        problem = f"predictions differ by up to {difference:.3g} from those made when it was trained"
    elif packing.prediction_hash(expected) != archive.manifest["prediction_sha256"]:
        problem = "the sample's predictions do not match the manifest's prediction_sha256"
    return {
        "ok": problem is None,
        "rows": len(rows),
        "max_difference": difference,
        "seconds": round(time.monotonic() - started, 3),
        "problem": problem,
    }


def _difference(expected: Predictions, actual: Predictions) -> float:
    """The greatest relative difference; infinite where shapes or class codes differ."""
    if expected.values.shape != actual.values.shape:
        return float("inf")
    if expected.probabilities is None or actual.probabilities is None:
        pair = (expected.values.astype(np.float64), actual.values.astype(np.float64))
    elif not np.array_equal(expected.values, actual.values):
        return float("inf")
    else:
        pair = (expected.probabilities, actual.probabilities)
    if pair[0].shape != pair[1].shape:
        return float("inf")
    return float(np.max(np.abs(pair[0] - pair[1]) / np.maximum(1.0, np.abs(pair[0])), initial=0.0))


def main(arguments: list[str] | None = None) -> int:
    """Parse, verify, print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainyard_trainer_worker.training.verify", description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, help="the model.tar.gz")
    parser.add_argument("--sha256", help="the SHA-256 that the archive must have")
    parser.add_argument("--wait", action="store_true", help="load the libraries, then read the task from stdin")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    parser.add_argument("--preload", default="", help="modules to import first, separated by commas")
    args = parser.parse_args(arguments)
    path, expected = args.archive, args.sha256
    if args.parent_pid is not None:
        die_with_parent(args.parent_pid)
    for module in filter(None, args.preload.split(",")):
        importlib.import_module(module)
    if args.wait:
        line = sys.stdin.readline()
        if not line.strip():
            return 2
        task = json.loads(line)
        path, expected = Path(task["path"]), task["sha256"]
    if path is None:
        parser.error("name the archive, or use --wait")
    verdict = verify(path, expected)
    sys.stdout.write(json.dumps(verdict) + "\n")
    return 0 if verdict["ok"] else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # taking the libraries down in order costs 0.3 s
