"""Plots as data: figures in plotly's JSON form, which ClearML and notebooks show as they are. Pure numpy.

Each has at most a few hundred numbers, however large the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainyard_trainer_worker.training.evaluation import Floats, Ints, Predictions

MAX_CLASSES = 20
MAX_POINTS = 400
MAX_BARS = 25
MAX_LABEL_CHARS = 32
REST = "(all others)"


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot. `data` holds traces of the types heatmap, scatter and bar."""

    name: str
    title: str
    x_title: str
    y_title: str
    data: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plotly's form of a figure."""
        layout = {
            "title": {"text": self.title},
            "xaxis": {"title": {"text": self.x_title}},
            "yaxis": {"title": {"text": self.y_title}},
        }
        return {"data": [dict(trace) for trace in self.data], "layout": layout}


def held_out(
    truth: npt.NDArray[Any], predictions: Predictions, classes: Sequence[Any], label: str, seed: int
) -> tuple[Figure, ...]:
    """What a model does on the held-out part: for classes the confusion matrix, for two classes the ROC curve too, for
    numbers the predictions beside the truth."""
    if not classes:
        return (residuals(truth, predictions.values, label, seed),)
    figures = [confusion_matrix(truth, predictions.values, classes)]
    if len(classes) == 2 and predictions.probabilities is not None and len(np.unique(truth)) == 2:
        figures.append(roc_curve(truth, predictions.probabilities[:, 1], classes[1]))
    return tuple(figures)


def confusion_matrix(truth: Ints, predicted: Ints, classes: Sequence[Any]) -> Figure:
    """Rows are the true classes, columns the predicted ones. Beyond 20 classes the 19 most frequent are shown, and all
    others as one."""
    shown = np.arange(len(classes))
    names = [short(name) for name in classes]
    if len(classes) > MAX_CLASSES:
        counts = np.bincount(truth, minlength=len(classes))
        frequent = np.sort(np.argsort(-counts, kind="stable")[: MAX_CLASSES - 1])
        shown = np.full(len(classes), len(frequent))
        shown[frequent] = np.arange(len(frequent))
        names = [*(names[code] for code in frequent), REST]
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (shown[truth], shown[predicted]), 1)
    trace = {"type": "heatmap", "x": names, "y": names, "z": matrix.tolist(), "colorscale": "Blues"}
    return Figure("confusion_matrix", "Confusion matrix, held-out rows", "predicted", "true", (trace,))


def roc_curve(truth: Ints, probability: Floats, positive: Any) -> Figure:
    """The share of true positives over that of false positives, one point per threshold, thinned to 400."""
    order = np.argsort(-probability, kind="stable")
    hits, scores = truth[order] == 1, probability[order]
    last_of_score = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true_positives = np.append(0, np.cumsum(hits)[last_of_score])
    false_positives = np.append(0, np.cumsum(~hits)[last_of_score])
    picked = _thinned(len(true_positives))
    x = (false_positives / false_positives[-1])[picked]
    y = (true_positives / true_positives[-1])[picked]
    curve = {"type": "scatter", "mode": "lines", "name": f"{short(positive)}", "x": _rounded(x), "y": _rounded(y)}
    chance = {"type": "scatter", "mode": "lines", "name": "chance", "x": [0.0, 1.0], "y": [0.0, 1.0]}
    return Figure("roc_curve", "ROC curve, held-out rows", "false positive rate", "true positive rate", (curve, chance))


def residuals(truth: Floats, predicted: Floats, label: str, seed: int) -> Figure:
    """Predictions over the truth for at most 400 rows, drawn at random."""
    picked = np.arange(len(truth))
    if len(truth) > MAX_POINTS:
        picked = np.sort(np.random.RandomState(seed).permutation(len(truth))[:MAX_POINTS])
    x, y = truth[picked], predicted[picked]
    ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
    rows = {"type": "scatter", "mode": "markers", "name": "rows", "x": _rounded(x), "y": _rounded(y)}
    ideal = {"type": "scatter", "mode": "lines", "name": "predicted = true", "x": ends, "y": ends}
    title = f"Predictions of {short(label)}, held-out rows"
    return Figure("residuals", title, "true", "predicted", (rows, ideal))


def importance(values: Mapping[str, float]) -> Figure:
    """The 25 columns that matter most, the first at the top."""
    top = list(values.items())[:MAX_BARS][::-1]
    names = [short(name) for name, _ in top]
    trace = {"type": "bar", "orientation": "h", "x": _rounded(np.array([v for _, v in top])), "y": names}
    return Figure("feature_importance_plot", "Feature importance, held-out rows", "loss of the metric", "", (trace,))


def short(value: Any) -> str:
    """A label for an axis: printable, on one line, at most 32 characters."""
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    return text if len(text) <= MAX_LABEL_CHARS else text[: MAX_LABEL_CHARS - 1] + "…"


def _thinned(count: int) -> Ints:
    """At most 400 positions out of `count`, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(np.int64))


def _rounded(values: npt.NDArray[Any]) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]
