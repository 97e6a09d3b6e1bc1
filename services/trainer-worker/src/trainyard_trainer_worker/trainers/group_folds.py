"""Inner validation by whole groups in which every class is always trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold

Ints = npt.NDArray[np.int64]
Fold = tuple[Ints, Ints]


class Folds:
    """Folds that are known, as a scikit-learn splitter: rows to train on and rows to validate on."""

    def __init__(self, folds: list[Fold]) -> None:
        self.folds = folds

    def get_n_splits(self, *_: Any, **__: Any) -> int:
        """How many there are."""
        return len(self.folds)

    def split(self, *_: Any, **__: Any) -> Iterator[Fold]:
        """Each of them."""
        yield from self.folds


def covering_folds(groups: Ints, target: Ints, n_splits: int) -> Folds:
    """GroupKFold's folds, without the groups that hold the last rows of a class: those are trained on every time.

    A fold that would validate on nothing is left out; there may be none left.
    """
    classes = np.unique(target)
    folds = []
    for _, validated in GroupKFold(n_splits).split(groups, groups=groups):
        held_out = np.zeros(len(groups), dtype=bool)
        held_out[validated] = True
        for code in classes:
            if not np.any(target[~held_out] == code):
                among = groups[held_out & (target == code)]
                held_out &= groups != np.bincount(among).argmax()
        if held_out.any():
            folds.append((np.flatnonzero(~held_out), np.flatnonzero(held_out)))
    return Folds(folds)


def lacks(folds: Folds, target: Ints, n_classes: int) -> bool:
    """Whether a fold validates without one of the classes, on which a curve per class is not defined."""
    return any(len(np.unique(target[validated])) < n_classes for _, validated in folds.folds)
