"""A saved TabularPredictor behind the methods that every model of ours has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from autogluon.tabular import TabularPredictor

FORMAT = "autogluon.tabular"
FOLDER = "predictor"
LOAD = f"autogluon.tabular.TabularPredictor.load('{FOLDER}')"


def load(path: Path) -> TabularModel:
    """The predictor saved in the folder `path`. Runs code from it."""
    return TabularModel(TabularPredictor.load(str(path)))


def quiet_about_torch() -> None:
    """Leave out what AutoGluon says once per model where torch, which none of its models here needs, is absent."""
    logging.getLogger("autogluon.common.utils.resource_utils").addFilter(
        lambda record: not record.getMessage().strip().startswith("Failed to import torch")
    )


class TabularModel:
    """Takes the raw feature table (`frames.to_features`); for classification answers in class codes."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor
        labels = predictor.class_labels
        self.classes_ = None if labels is None else np.asarray(labels, dtype=np.int64)

    def predict(self, features: pd.DataFrame) -> npt.NDArray[Any]:
        """Class codes, or numbers; one per row."""
        answer: npt.NDArray[Any] = self.predictor.predict(features, as_pandas=False)
        return answer

    def predict_proba(self, features: pd.DataFrame) -> npt.NDArray[np.float64]:
        """One column per class of `classes_`."""
        table = self.predictor.predict_proba(features, as_multiclass=True)
        answer: npt.NDArray[np.float64] = table[list(self.predictor.class_labels)].to_numpy(dtype=np.float64)
        return answer

    def importance(
        self, features: pd.DataFrame, truth: npt.NDArray[Any], arguments: Mapping[str, Any]
    ) -> dict[str, dict[str, float]]:
        """AutoGluon's permutation importance by its own metric, most important first: per column `importance`,
        `stddev`, `p_value`, `n` and the bounds of the confidence band."""
        known = np.ones(len(truth), dtype=bool) if self.classes_ is None else np.isin(truth, self.classes_)
        data = features[known].assign(**{self.predictor.label: truth[known]})
        table = self.predictor.feature_importance(data, silent=True, **arguments)
        return {str(name): {key: float(row[key]) for key in table.columns} for name, row in table.iterrows()}
