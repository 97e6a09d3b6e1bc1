"""Whether a packed model, loaded in this process, predicts its sample as it did when it was trained."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

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
