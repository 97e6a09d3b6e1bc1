"""`extras.<trainer>.analysis`: what the training part looks like, as tables. Each part is asked for by name.

Work is bounded: at most 10,000 rows (drawn at random) and 200 columns.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainyard_trainer_worker.spec import Detail, clean, invalid_request
from trainyard_trainer_worker.training.evaluation import mutual_information
from trainyard_trainer_worker.training.frames import Column

PARTS = ("summary", "corr", "mutual_info", "target_corr", "shap")
MAX_ROWS = 10_000
MAX_COLUMNS = 200
MUTUAL_INFO_ROWS = 2_000  # neighbours are searched per column: 10,000 rows of 200 columns would take half a minute
MAX_CLASSES = 20
SHAP_ROWS = 50
SHAP_BACKGROUND = 20
SHAP_LIMIT_S = 5.0  # all 50 rows with shap's default of evaluations took 40 s for five columns


class Unavailable(Exception):
    """A part needs a library that is not installed; says which."""


def wanted(extras: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The parts that a request asks for. Raises AttemptError(field_invalid) that names the field under `where`."""
    asked = extras.get("analysis") or {}
    if not isinstance(asked, Mapping):
        raise invalid_request(Detail.FIELD_INVALID, f"{where}.analysis must be an object of {', '.join(PARTS)}")
    for key, value in asked.items():
        if key not in PARTS:
            raise invalid_request(
                Detail.FIELD_INVALID, f"{where}.analysis.{clean(key, 40)} is unknown; known are {', '.join(PARTS)}"
            )
        if not isinstance(value, bool):
            raise invalid_request(Detail.FIELD_INVALID, f"{where}.analysis.{key} must be true or false")
    return tuple(part for part in PARTS if asked.get(part))


class Analysis:
    """The parts over one training part."""

    def __init__(
        self,
        features: pd.DataFrame,
        target: npt.NDArray[Any],
        columns: Sequence[Column],
        classes: Sequence[Any],
        seed: int,
    ) -> None:
        rows = np.arange(len(features))
        if len(rows) > MAX_ROWS:
            rows = np.random.RandomState(seed).permutation(len(rows))[:MAX_ROWS]
        self._columns = tuple(columns)[:MAX_COLUMNS]
        self._raw = features.iloc[rows][[column.name for column in self._columns]].reset_index(drop=True)
        self._numbers = pd.DataFrame({c.name: _as_numbers(self._raw[c.name], c) for c in self._columns})
        self._target = target[rows]
        self._classes = tuple(classes)
        self._seed = seed

    def table(self, part: str, model: Any) -> pd.DataFrame:
        """One part as a table with a named index. `model` is asked by `shap` only. Raises Unavailable."""
        if part == "shap":
            return self._shap(model)
        table: pd.DataFrame = getattr(self, f"_{part}")()
        return table

    def _summary(self) -> pd.DataFrame:
        shown = self._raw.describe(include="all").T
        shown.insert(0, "kind", [column.kind for column in self._columns])
        shown.insert(1, "missing", self._raw.isna().sum())
        return shown.rename_axis("feature")

    def _corr(self) -> pd.DataFrame:
        ordered = [column.name for column in self._columns if column.kind != "category"]
        return self._numbers[ordered].corr().rename_axis("feature")

    def _target_corr(self) -> pd.DataFrame:
        ordered = self._numbers[[column.name for column in self._columns if column.kind != "category"]]
        return pd.DataFrame(
            {name: ordered.corrwith(pd.Series(values)) for name, values in self._indicators().items()}
        ).rename_axis("feature")

    def _mutual_info(self) -> pd.DataFrame:
        rows = slice(0, MUTUAL_INFO_ROWS)
        filled = self._numbers.fillna(self._numbers.median()).fillna(0.0).iloc[rows]
        discrete = np.array([column.kind == "category" for column in self._columns])
        values = mutual_information(filled, self._target[rows], discrete, bool(self._classes), self._seed)
        table = pd.DataFrame({"mutual_info": values}, index=pd.Index(filled.columns, name="feature"))
        return table.sort_values("mutual_info", ascending=False, kind="stable")

    def _indicators(self) -> dict[str, npt.NDArray[Any]]:
        """The target as columns of numbers: itself, or for classes who belongs to each (the second of two)."""
        if not self._classes:
            return {"target": self._target}
        codes = [1] if len(self._classes) == 2 else range(min(len(self._classes), MAX_CLASSES))
        return {str(self._classes[code]): (self._target == code).astype(np.float64) for code in codes}

    def _shap(self, model: Any) -> pd.DataFrame:
        """Mean absolute SHAP value per column and output, over as many of 50 rows as five seconds allow, against a
        background of 20."""
        try:
            shap = importlib.import_module("shap")
        except ImportError as error:
            raise Unavailable("the library shap is not installed here; install it with: pip install shap") from error
        coded = self._raw.copy()
        labels: dict[str, npt.NDArray[Any]] = {}
        for column in self._columns:
            if column.kind != "number":
                codes, found = pd.factorize(self._raw[column.name])
                coded[column.name] = codes.astype(np.float64)
                labels[column.name] = np.append(found.to_numpy(dtype=object), np.nan)  # code -1: missing
        rows = np.random.RandomState(self._seed).permutation(len(coded))
        background = coded.iloc[rows[:SHAP_BACKGROUND]].to_numpy(dtype=np.float64)
        explained = coded.iloc[rows[:SHAP_ROWS]].to_numpy(dtype=np.float64)

        def ask(matrix: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
            table = pd.DataFrame(matrix, columns=coded.columns)
            for name, known in labels.items():
                table[name] = pd.Series(known[table[name].to_numpy().astype(np.int64)], dtype="object")
            answer: npt.NDArray[Any] = model.predict_proba(table) if self._classes else model.predict(table)
            return answer

        explainer = shap.PermutationExplainer(ask, background, seed=self._seed)
        ends = time.monotonic() + SHAP_LIMIT_S
        strengths: list[npt.NDArray[Any]] = []
        for row in explained:
            if strengths and time.monotonic() > ends:
                break
            one = explainer(row[np.newaxis], max_evals=2 * len(row) + 1, silent=True)
            strengths.append(np.abs(np.asarray(one.values)[0]))
        values = np.mean(strengths, axis=0)
        outputs = [str(self._classes[code]) for code in model.classes_] if self._classes else ["target"]
        index = pd.Index(coded.columns, name="feature")
        return pd.DataFrame(values.reshape(len(index), -1), index=index, columns=outputs)


def _as_numbers(values: pd.Series[Any], column: Column) -> pd.Series[Any]:
    if column.kind == "number":
        return values
    if column.kind == "category":
        codes = pd.factorize(values)[0].astype(np.float64)
        return pd.Series(np.where(codes < 0, np.nan, codes))
    days = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
    return pd.Series((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1))
