"""`python -m trainyard_trainer_worker.training.predicting ARCHIVE --sha256 HASH --data CSV --out CSV [--proba]`.

Predicts the rows of a CSV file with a packed model, in a process of its own. Prints one line of JSON:
`{"ok": true, "rows": n, "columns": [...], "warnings": [...]}` or `{"ok": false, "problem": "..."}`. Exits 0, 3 where
model or data are not usable, 2 for wrong usage.

Loading a model runs code: use only archives whose origin you trust; that is what `--sha256` is for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainyard_trainer_worker.spec import AttemptError, listed
from trainyard_trainer_worker.training import datasets, doubts, evaluation, frames, loading, packing
from trainyard_trainer_worker.training.frames import Column

EXIT_INVALID = 3
PREDICTION = "prediction"


class Unusable(Exception):
    """Model and data do not fit; the text says how."""


def predict_file(archive_path: Path, sha256: str, data: Path, out: Path, *, proba: bool) -> dict[str, Any]:
    """Write one prediction per row of `data`, in its order, to `out` by a rename; classes by their names.

    Raises Unusable, BadArchive, AttemptError (the data are no CSV), OSError.
    """
    archive = packing.read(archive_path, sha256)
    classes: list[Any] = list(archive.manifest["classes"])
    if proba and not classes:
        raise Unusable("the model predicts numbers, and has no probabilities; leave --proba out")
    texts = [column.name for column in archive.columns if column.kind != "number"]
    table = datasets.parse_csv(data.read_bytes(), texts=texts)
    label = str(archive.manifest["label"])
    warnings = judge_columns(table, archive.columns, label)
    with tempfile.TemporaryDirectory(prefix="trainyard-predict-") as folder:
        model = loading.load(archive, Path(folder))
        answer = evaluation.predict(model, frames.to_features(table, archive.columns), len(classes))
    result = as_table(answer, classes, proba=proba)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        result.to_csv(partial, index=False, encoding="utf-8", lineterminator="\n")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return {"ok": True, "rows": len(result), "columns": list(result.columns), "warnings": warnings}


def judge_columns(table: pd.DataFrame, columns: Sequence[Column], label: str) -> list[str]:
    """What a person should know of columns that the model does not take. Raises Unusable where it lacks some."""
    missing = [column.name for column in columns if column.name not in table.columns]
    if missing:
        raise Unusable(
            f"the file lacks {len(missing)} of the {len(columns)} columns that the model was trained on:"
            f" {listed(missing)}; the file's columns are {listed(list(table.columns))}"
        )
    known = {column.name for column in columns}
    warnings = []
    extra = [name for name in table.columns if name not in known and name != label]
    if extra:
        warnings.append(f"columns that the model does not know are not used: {listed(extra)}")
    return warnings + doubts.of_prediction(table, columns)


def as_table(answer: evaluation.Predictions, classes: Sequence[Any], *, proba: bool) -> pd.DataFrame:
    """`prediction`, and with `proba` one `probability_<class>` per class."""
    if not classes:
        return pd.DataFrame({PREDICTION: answer.values})
    names = np.array(classes, dtype=object)
    table = pd.DataFrame({PREDICTION: names[answer.values]})
    if proba and answer.probabilities is not None:
        for code, name in enumerate(classes):
            table[f"probability_{name}"] = answer.probabilities[:, code]
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, predict, print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainyard_trainer_worker.training.predicting", description=__doc__)
    parser.add_argument("archive", type=Path, help="the model.tar.gz")
    parser.add_argument("--sha256", required=True, help="the SHA-256 that the archive must have")
    parser.add_argument("--data", type=Path, required=True, help="the rows to predict, a CSV file with a header")
    parser.add_argument("--out", type=Path, required=True, help="where to write the predictions")
    parser.add_argument("--proba", action="store_true", help="the probability of each class, too")
    args = parser.parse_args(arguments)
    # What libraries print belongs to nobody here: standard output is the answer's.
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        verdict = predict_file(args.archive, args.sha256, args.data, args.out, proba=args.proba)
    except (Unusable, packing.BadArchive, AttemptError) as problem:
        verdict = {"ok": False, "problem": str(problem)}
    except ImportError as problem:
        verdict = {"ok": False, "problem": f"the model's library is not installed here ({problem.name})"}
    except OSError as problem:
        verdict = {"ok": False, "problem": f"{problem.filename or args.out}: {problem.strerror or problem}"}
    except Exception as problem:  # noqa: BLE001 - whatever a model does when it loads or predicts, the caller is told
        message = f"the model cannot be loaded or asked: {type(problem).__name__}: {problem}"
        verdict = {"ok": False, "problem": message[:500]}
    answer_to.write(json.dumps(verdict) + "\n")
    answer_to.flush()
    return 0 if verdict["ok"] else EXIT_INVALID


if __name__ == "__main__":
    sys.exit(main())
