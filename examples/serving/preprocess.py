"""A model of Trainyard in clearml-serving's engine `custom`: `clearml-serving model add --preprocess` with this file.

A request holds rows, as records or as columns and data, and may ask for probabilities:

    {"records": [{"alcohol": 13.2, "hue": 1.05}, ...], "return_proba": true}
    {"columns": ["alcohol", "hue"], "data": [[13.2, 1.05], ...]}

The reply has one prediction per row, classes by their names; with `return_proba` one probability per row and class:

    {"predictions": ["barolo", ...], "classes": ["barbera", "barolo"], "probabilities": [[0.02, 0.98], ...]}

A body that does not fit the model is answered 422, and says why. Loading a model runs code from it, so its bytes are
compared with the SHA-256 that Trainyard's worker registered with the model.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FORMAT = "trainyard-model/1"
LARGEST = 3.4e38  # what the training cut numbers to


class Preprocess:
    """One endpoint's model. clearml-serving makes one per endpoint and process, and calls `load` first."""

    model_endpoint: Any = None

    def __init__(self) -> None:
        self._model: Any = None
        self._manifest: dict[str, Any] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def load(self, local_file_name: str) -> Any:
        """Check and load `model.tar.gz`. Raises ValueError where it is not the model that was registered."""
        if local_file_name is None:
            raise ValueError("the endpoint has no model: pass --model-id, or --name and --project, to `model add`")
        path = Path(local_file_name)
        expected = registered_sha256(self.model_endpoint)
        with path.open("rb") as file:
            if expected is not None and hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ValueError("the file is not the one that was registered: its SHA-256 differs")
        self._folder = tempfile.TemporaryDirectory(prefix="trainyard-model-")
        with tarfile.open(path) as tar:
            tar.extractall(self._folder.name, filter="data")
        folder = Path(self._folder.name)
        self._manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if self._manifest.get("format") != FORMAT:
            raise ValueError(f"the model's format is not {FORMAT}")
        for name, facts in self._manifest["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != facts["sha256"]:
                raise ValueError(f"{name} does not match the manifest")
        self._model = load_model(folder, self._manifest["model"])
        return self._model

    def preprocess(self, body: Any, state: dict[str, Any], collect_custom_statistics_fn: Any = None) -> pd.DataFrame:
        """The body as the table that the model takes. Raises ValueError, which is answered 422."""
        state["return_proba"] = bool(body.get("return_proba")) if isinstance(body, dict) else False
        if state["return_proba"] and not self._manifest["classes"]:
            raise ValueError("the model predicts numbers, and has no probabilities: leave return_proba out")
        return features(table(body), self._manifest["columns"])

    def process(self, data: pd.DataFrame, state: dict[str, Any], collect_custom_statistics_fn: Any = None) -> Any:
        """What the model says of each row: numbers, or one probability per class."""
        if not self._manifest["classes"]:
            return np.asarray(self._model.predict(data), dtype=np.float64).ravel()
        return probabilities(self._model, data, len(self._manifest["classes"]))

    def postprocess(self, data: Any, state: dict[str, Any], collect_custom_statistics_fn: Any = None) -> dict[str, Any]:
        """The reply."""
        classes = self._manifest["classes"]
        if not classes:
            return {"predictions": data.tolist()}
        reply: dict[str, Any] = {"predictions": [classes[code] for code in np.argmax(data, axis=1)]}
        if state["return_proba"]:
            reply |= {"classes": classes, "probabilities": data.tolist()}
        return reply


def registered_sha256(endpoint: Any) -> str | None:
    """What the worker wrote into the model's metadata; None for a model that was not registered by Trainyard."""
    if endpoint is None or not endpoint.model_id:
        return None
    from clearml import Model

    value = Model(model_id=endpoint.model_id).get_metadata("sha256")
    return str(value) if value else None


def load_model(folder: Path, model: dict[str, str]) -> Any:
    """The model in the folder that the archive was unpacked to; it needs the libraries that it was trained with."""
    path = folder / model["path"]
    if model["format"] == "pickle":
        return pickle.loads(path.read_bytes())  # noqa: S301 - its hash was compared with the registered one
    if model["format"] == "autogluon.tabular":
        from autogluon.tabular import TabularPredictor

        return TabularPredictor.load(str(path))
    raise ValueError(f"models of format {model['format']} are unknown to this file")


def table(body: Any) -> pd.DataFrame:
    """The rows of a request. Raises ValueError, naming what is wrong with it."""
    if not isinstance(body, dict) or ("records" in body) == ("data" in body):
        raise ValueError("send an object with either records, or columns and data")
    if "records" in body:
        records = body["records"]
        if not isinstance(records, list) or not records or not all(isinstance(row, dict) for row in records):
            raise ValueError("records must be a list of objects, one at least")
        return pd.DataFrame.from_records(records).astype(object)
    columns, rows = body.get("columns"), body["data"]
    if not isinstance(columns, list) or len({str(name) for name in columns}) != len(columns):
        raise ValueError("columns must be a list of different names")
    if not isinstance(rows, list) or not rows or not all(isinstance(r, list) and len(r) == len(columns) for r in rows):
        raise ValueError("data must be a list of lists, one at least, each with one value per column")
    return pd.DataFrame(rows, columns=columns, dtype=object)


def features(rows: pd.DataFrame, columns: list[dict[str, str]]) -> pd.DataFrame:
    """Exactly the model's columns, as it was trained on them: numbers, or text; what is missing is NaN.

    Columns that the model does not know are not used. Raises ValueError where it lacks one.
    """
    missing = [column["name"] for column in columns if column["name"] not in rows.columns]
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(f"{len(missing)} of the model's {len(columns)} columns are missing: {named}")
    return pd.DataFrame({column["name"]: _converted(rows[column["name"]], column["kind"]) for column in columns})


def _converted(values: pd.Series[Any], kind: str) -> pd.Series[Any]:
    if kind == "number":
        try:
            numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        except TypeError:
            raise ValueError(f"{values.name} holds a list or an object; numbers are needed") from None
        return numbers.where(np.isfinite(numbers)).clip(-LARGEST, LARGEST)
    text = [str(value) if known else np.nan for value, known in zip(values, values.notna(), strict=True)]
    return pd.Series(text, index=values.index, dtype="object")


def probabilities(model: Any, rows: pd.DataFrame, n_classes: int) -> Any:
    """One column per class of the manifest; a class that was absent from training has 0."""
    if hasattr(model, "class_labels"):  # AutoGluon's predictor
        codes = list(model.class_labels)
        raw = model.predict_proba(rows, as_multiclass=True)[codes].to_numpy(dtype=np.float64)
    else:
        codes, raw = model.classes_, np.asarray(model.predict_proba(rows), dtype=np.float64)
    found = np.zeros((len(rows), n_classes), dtype=np.float64)
    found[:, np.asarray(codes, dtype=np.int64)] = raw
    return found / found.sum(axis=1, keepdims=True)
