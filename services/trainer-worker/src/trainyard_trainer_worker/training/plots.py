"""Figures as PNG files, drawn by matplotlib without its global state."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.figure
from matplotlib.backends.backend_agg import FigureCanvasAgg

from trainyard_trainer_worker.training.figures import Figure

INCHES = (6.4, 4.8)
DOTS_PER_INCH = 100
MAX_NUMBERED_CELLS = 144


def draw(figure: Figure, path: Path) -> None:
    """Draw `figure` as a PNG of 640 x 480 dots. Labels are text, never formulas."""
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        canvas = matplotlib.figure.Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="tight")
        FigureCanvasAgg(canvas)
        axes = canvas.add_subplot()
        for trace in figure.data:
            {"heatmap": _heatmap, "scatter": _scatter, "bar": _bar}[trace["type"]](axes, trace)
        axes.set(title=figure.title, xlabel=figure.x_title, ylabel=figure.y_title)
        if len(figure.data) > 1:
            axes.legend()
        canvas.savefig(path, format="png", metadata={"Software": None})


def _heatmap(axes: Any, trace: Any) -> None:
    cells, names = trace["z"], trace["x"]
    axes.imshow(cells, cmap="Blues", vmin=0, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), trace["y"])
    if len(names) ** 2 > MAX_NUMBERED_CELLS:
        return
    dark = max(max(row) for row in cells) / 2
    for y, row in enumerate(cells):
        for x, value in enumerate(row):
            axes.text(x, y, str(value), ha="center", va="center", color="white" if value > dark else "black")


def _scatter(axes: Any, trace: Any) -> None:
    style = {"marker": ".", "linestyle": "none"} if trace["mode"] == "markers" else {"marker": ""}
    axes.plot(trace["x"], trace["y"], label=trace["name"], **style)


def _bar(axes: Any, trace: Any) -> None:
    axes.barh(range(len(trace["y"])), trace["x"])
    axes.set_yticks(range(len(trace["y"])), trace["y"])
