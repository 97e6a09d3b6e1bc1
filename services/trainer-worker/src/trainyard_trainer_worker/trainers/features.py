"""The first half of every model: raw columns to a matrix of numbers, made of stock scikit-learn parts only.

So a model file loads wherever scikit-learn and its library are installed. Fitted on the training part, like the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from trainyard_trainer_worker.training.frames import Column

MAX_CATEGORIES = 50


def build_features(columns: Sequence[Column], *, scale: bool) -> Any:
    """An unfitted transformer for `columns`: medians for missing numbers (with an indicator), dates as days since
    1970 (pandas 2 takes those before 1677 and after 2262 for missing), categories one-hot (the 49 most frequent and one
    for the rest). `scale` standardises numbers and dates."""
    names: dict[str, list[str]] = {"number": [], "date": [], "category": []}
    for column in columns:
        names[column.kind].append(column.name)
    scaler = [StandardScaler()] if scale else []
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    days = [
        FunctionTransformer(methodcaller("apply", pd.to_datetime, errors="coerce", format="ISO8601", utc=True)),
        FunctionTransformer(methodcaller("sub", pd.Timestamp(0, tz="UTC").as_unit("s"))),
        FunctionTransformer(methodcaller("div", pd.Timedelta(days=1))),
    ]
    encode = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=False, dtype=np.float64
    )
    fill = SimpleImputer(strategy="constant", fill_value="(missing)", keep_empty_features=True)
    steps = [
        ("number", make_pipeline(impute, *scaler), names["number"]),
        ("date", make_pipeline(*days, impute, *scaler), names["date"]),
        ("category", make_pipeline(fill, encode), names["category"]),
    ]
    return ColumnTransformer([step for step in steps if step[2]], verbose_feature_names_out=False)
