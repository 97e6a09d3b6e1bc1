"""The held-out part: which rows are trained on and which are kept for the evaluation, with a proof.

Drawn with numpy's legacy generator, whose stream is frozen: the same data, method, size and seed give the same rows
with any version of any library. Pure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainyard_trainer_worker.spec import Detail, clean, invalid_dataset, listed

Ints = npt.NDArray[np.int64]
MAX_DRAWS = 50


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of the training and the held-out rows (sorted, disjoint, together all rows), and how they came to be.

    `draw` is the number of draws that were passed over because a class would have been missing from a part.
    """

    train: Ints
    test: Ints
    method: str
    seed: int
    test_size: float
    sha256: str
    stratified: bool
    groups_train: int | None = None
    groups_test: int | None = None
    overlap: int = 0
    draw: int = 0

    def proof(self) -> dict[str, Any]:
        """What is recorded with the run. `overlap` counts rows, or groups, that are in both parts: always 0."""
        return {
            "method": self.method,
            "test_size": self.test_size,
            "random_seed": self.seed,
            "sha256": self.sha256,
            "stratified": self.stratified,
            "n_train": len(self.train),
            "n_test": len(self.test),
            "groups_train": self.groups_train,
            "groups_test": self.groups_test,
            "overlap": self.overlap,
            "draw": self.draw,
        }


def row_shuffle(rows: Ints, test_size: float, seed: int, classes: Ints | None) -> Split:
    """Shuffle rows. With `classes` (codes) the held-out part has each class's share, and a row at least of as many
    classes as it has room for; training keeps at least one row of every class. Where that is impossible (more classes
    than room) the draw is plain and `stratified` is False.

    `rows` are the rows' identities in the source table; the hash is over them.
    """
    n = len(rows)
    n_test = min(max(1, math.ceil(test_size * n)), n - 1)
    order = np.random.RandomState(seed).permutation(n)
    chosen = None if classes is None else _stratified(order, classes, n_test)
    test = order[:n_test] if chosen is None else chosen
    return _split(rows, test, "row_shuffle", seed, test_size, stratified=chosen is not None)


def _stratified(order: Ints, classes: Ints, n_test: int) -> Ints | None:
    """The first rows of each class in `order`, as many as its share by largest remainder, those first that would have
    none. None where it cannot be."""
    counts = np.bincount(classes)
    exact = counts * (n_test / len(classes))
    take = np.minimum(np.floor(exact).astype(np.int64), np.maximum(counts - 1, 0))
    for code in np.lexsort((-(exact - take), take > 0)):
        if take.sum() >= n_test:
            break
        if counts[code] - take[code] > 1:
            take[code] += 1
    if take.sum() < n_test:
        return None
    by_class = order[np.argsort(classes[order], kind="stable")]
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[classes[by_class]]
    chosen: Ints = by_class[rank < take[classes[by_class]]]
    return chosen


def group_codes(frame: pd.DataFrame, keys: Sequence[str]) -> Ints:
    """One code per row for the combination of its values in `keys`; missing values form a group of their own.

    Raises AttemptError(group_key_missing).
    """
    absent = [key for key in keys if key not in frame.columns]
    if absent:
        raise invalid_dataset(
            Detail.GROUP_KEY_MISSING,
            f"group_key names {listed(absent)}; the columns are {listed(list(frame.columns))}",
        )
    codes = np.zeros(len(frame), dtype=np.int64)
    for key in keys:
        inner, values = pd.factorize(frame[key], use_na_sentinel=False)
        codes = np.unique(codes * (len(values) + 1) + inner, return_inverse=True)[1].astype(np.int64)
    return codes


def group_shuffle(rows: Ints, groups: Ints, test_size: float, seed: int, classes: Ints | None, keys: str) -> Split:
    """Shuffle whole groups: no group is in both parts. `test_size` is the share of the groups.

    With `classes`, draws whose training part lacks a class, or whose held-out part has only one, are passed over, up
    to 50; then the first draw whose training part has two classes is taken. Raises AttemptError.
    """
    distinct = np.unique(groups)
    if len(distinct) < 2:
        raise invalid_dataset(
            Detail.TOO_FEW_GROUPS, f"group_key {clean(keys)} has one value only; group_shuffle needs two or more groups"
        )
    n_test = min(max(1, math.ceil(test_size * len(distinct))), len(distinct) - 1)
    random = np.random.RandomState(seed)
    fallback: tuple[int, npt.NDArray[np.bool_]] | None = None
    for draw in range(MAX_DRAWS):
        held_out = np.isin(groups, random.permutation(distinct)[:n_test])
        if classes is None or _covers(classes, held_out):
            break
        if fallback is None and len(np.unique(classes[~held_out])) > 1:
            fallback = (draw, held_out)
    else:
        if fallback is None:
            raise invalid_dataset(
                Detail.ONE_CLASS,
                f"in {MAX_DRAWS} draws of groups by {clean(keys)} the training part never had two classes; "
                "use row_shuffle, another group_key or a smaller test_size",
            )
        draw, held_out = fallback
    in_train, in_test = np.unique(groups[~held_out]), np.unique(groups[held_out])
    overlap = len(np.intersect1d(in_train, in_test))
    return _split(
        rows,
        np.flatnonzero(held_out),
        "group_shuffle",
        seed,
        test_size,
        stratified=False,
        groups=(len(in_train), len(in_test), overlap),
        draw=draw,
    )


def _covers(classes: Ints, held_out: npt.NDArray[np.bool_]) -> bool:
    everything = len(np.unique(classes))
    return len(np.unique(classes[~held_out])) == everything and len(np.unique(classes[held_out])) > 1


def _split(
    rows: Ints,
    test: Ints,
    method: str,
    seed: int,
    test_size: float,
    *,
    stratified: bool,
    groups: tuple[int, int, int] | None = None,
    draw: int = 0,
) -> Split:
    test = np.sort(test).astype(np.int64)
    train = np.setdiff1d(np.arange(len(rows), dtype=np.int64), test)
    digest = hashlib.sha256(f"{method}\n{seed}\n".encode())
    digest.update(np.sort(rows[test]).astype("<i8").tobytes())
    overlap = len(np.intersect1d(train, test)) if groups is None else groups[2]
    return Split(
        train=train,
        test=test,
        method=method,
        seed=seed,
        test_size=test_size,
        sha256=digest.hexdigest(),
        stratified=stratified,
        groups_train=None if groups is None else groups[0],
        groups_test=None if groups is None else groups[1],
        overlap=overlap,
        draw=draw,
    )
