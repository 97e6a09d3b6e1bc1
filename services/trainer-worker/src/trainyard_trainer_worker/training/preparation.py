"""From a request and its file to two parts, training and held out, ready for a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainyard_trainer_worker.spec import Detail, FetchedData, TrainingRequest, clean, invalid_dataset, listed
from trainyard_trainer_worker.training import datasets, doubts, evaluation, frames, splits
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.evaluation import Metric
from trainyard_trainer_worker.training.frames import Column, Ints, Target
from trainyard_trainer_worker.training.splits import Split

MIN_TRAIN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Loaded:
    """The file's rows that have a label, and what is to be learned from them. `sha256` is of the whole file."""

    table: pd.DataFrame
    target: Target
    metric: Metric
    location: str
    sha256: str
    size_bytes: int
    dataset_id: str | None = None

    @property
    def dataset(self) -> dict[str, Any]:
        """The data, as the results name it."""
        named = {"location": self.location, "sha256": self.sha256, "size_bytes": self.size_bytes}
        return named if self.dataset_id is None else {**named, "id": self.dataset_id}


@dataclass(frozen=True, slots=True)
class Parts:
    """The two parts. `train_groups` is None unless whole groups are held out."""

    columns: Sequence[Column]
    split: Split
    train: pd.DataFrame
    test: pd.DataFrame
    train_target: npt.NDArray[Any]
    test_target: npt.NDArray[Any]
    train_groups: Ints | None


def load(
    request: TrainingRequest, data_roots: Sequence[str], emitter: Emitter, fetched: FetchedData | None = None
) -> Loaded:
    """Read the data (the fetched file, if there is one) and judge label, task and metric. Raises AttemptError."""
    raw = datasets.read_raw(request.dataset, data_roots) if fetched is None else datasets.read_fetched(fetched)
    classes_as_written = () if request.task_type == "regression" else (request.label,)
    table = datasets.parse_csv(raw.content, texts=classes_as_written)
    target = frames.make_target(table, request.label, request.task_type)
    metric = evaluation.choose_metric(request.metric, request.trainer, target.task_type)
    if target.dropped_rows:
        emitter.warn(f"{target.dropped_rows} rows without a value in the label column were left out")
    labelled = table.iloc[target.rows].reset_index(drop=True)
    return Loaded(labelled, target, metric, raw.location, raw.sha256, len(raw.content), raw.dataset_id)


def divide(request: TrainingRequest, loaded: Loaded, emitter: Emitter) -> Parts:
    """Hold out a part as the request says. Column kinds are found in the training part. Raises AttemptError."""
    table, target = loaded.table, loaded.target
    codes = target.values if target.classes else None
    groups = _groups(request, table, emitter)
    if groups is None:
        split = splits.row_shuffle(target.rows, request.test_size, request.seed, codes)
    else:
        keys = "+".join(request.group_key)
        split = splits.group_shuffle(target.rows, groups, request.test_size, request.seed, codes, keys)
    if codes is not None and len(np.unique(codes[split.train])) < 2:
        raise invalid_dataset(
            Detail.ONE_CLASS,
            f"the split leaves one class of {clean(request.label)} in the {len(split.train)} training rows; "
            "use a smaller split.test_size or more rows",
        )
    if len(split.train) < MIN_TRAIN_ROWS:
        raise invalid_dataset(
            Detail.TOO_FEW_ROWS,
            f"the split leaves {len(split.train)} rows for training; at least {MIN_TRAIN_ROWS} are needed: use a "
            "smaller split.test_size or more rows",
        )
    excluded = (request.label, *request.group_key)
    columns = frames.infer_columns(table.iloc[split.train], excluded)
    for doubt in doubts.of_training(table.iloc[split.train], columns):
        emitter.warn(doubt)
    if codes is not None and len(unseen := np.setdiff1d(codes[split.train], codes[split.test])):
        emitter.warn(
            f"the held-out part has no row of {listed([target.classes[code] for code in unseen])}, and its metrics say "
            "nothing of that; use a larger split.test_size"
        )
    used = {column.name for column in columns} | set(excluded)
    unused = [name for name in table.columns if name not in used]
    if unused:
        emitter.warn(f"columns without any value in the training part were left out: {listed(unused)}")
    return Parts(
        columns=columns,
        split=split,
        train=frames.to_features(table.iloc[split.train], columns),
        test=frames.to_features(table.iloc[split.test], columns),
        train_target=target.values[split.train],
        test_target=target.values[split.test],
        train_groups=None if groups is None else groups[split.train],
    )


def _groups(request: TrainingRequest, table: pd.DataFrame, emitter: Emitter) -> Ints | None:
    """Group codes for group_shuffle. row_shuffle ignores the key, with a warning (the columns are no features either:
    they name groups that lie in both parts, and a model that learns the names looks better than it is)."""
    if request.split_method == "group_shuffle":
        return splits.group_codes(table, request.group_key)
    if request.group_key:
        emitter.warn(
            f"split.method row_shuffle ignores group_key {listed(request.group_key)}: rows of one group may be in both "
            "parts; the columns were left out of the features. Use group_shuffle to keep groups whole"
        )
    return None
