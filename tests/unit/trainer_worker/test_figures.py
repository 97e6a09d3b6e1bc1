from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk

from trainyard_trainer_worker.training import figures, plots
from trainyard_trainer_worker.training.evaluation import Predictions
from trainyard_trainer_worker.training.figures import Figure

CHANCE = np.random.RandomState(4)


def test_the_confusion_matrix_is_sklearns() -> None:
    truth, predicted = CHANCE.randint(0, 3, 60), CHANCE.randint(0, 3, 60)
    (trace,) = figures.confusion_matrix(truth, predicted, ("a", "b", "c")).data
    assert trace["z"] == sk.confusion_matrix(truth, predicted).tolist()
    assert trace["x"] == trace["y"] == ["a", "b", "c"]


def test_many_classes_become_the_frequent_ones_and_the_rest_and_no_row_is_lost() -> None:
    truth = np.repeat(np.arange(100), np.arange(100) + 1)
    (trace,) = figures.confusion_matrix(truth, truth, tuple(range(100))).data
    assert trace["x"] == [*(str(code) for code in range(81, 100)), figures.REST]
    assert np.sum(trace["z"]) == np.trace(np.array(trace["z"])) == len(truth)


@pytest.mark.parametrize("rows", [12, 5_000])
def test_the_roc_curve_has_the_area_that_is_reported(rows: int) -> None:
    truth = CHANCE.randint(0, 2, rows)
    probability = np.clip(truth * 0.3 + CHANCE.rand(rows), 0, 1).round(2).astype(np.float64)  # with ties
    curve = figures.roc_curve(truth, probability, "yes").data[0]
    assert len(curve["x"]) <= figures.MAX_POINTS
    assert (curve["x"][0], curve["y"][0], curve["x"][-1], curve["y"][-1]) == (0, 0, 1, 1)
    assert sk.auc(curve["x"], curve["y"]) == pytest.approx(sk.roc_auc_score(truth, probability), abs=1e-4)


def test_residuals_of_many_rows_are_a_sample_that_a_seed_fixes() -> None:
    truth = CHANCE.rand(3_000)
    first, again = (figures.residuals(truth, truth + 1, "y", 7).data[0] for _ in range(2))
    assert first == again
    assert len(first["x"]) == figures.MAX_POINTS
    assert all(y == pytest.approx(x + 1, abs=1e-5) for x, y in zip(first["x"], first["y"], strict=True))


def test_the_plots_are_those_of_the_task() -> None:
    one_class = Predictions(np.array([1, 1]), np.array([[0.1, 0.9], [0.2, 0.8]]))
    two = np.array([0, 1])
    names = [figure.name for figure in figures.held_out(two, one_class, ("a", "b"), "y", 1)]
    assert names == ["confusion_matrix", "roc_curve"]
    assert len(figures.held_out(np.array([1, 1]), one_class, ("a", "b"), "y", 1)) == 1, "no curve without both classes"
    numbers = Predictions(np.array([1.0, 2.0]), None)
    assert [figure.name for figure in figures.held_out(np.array([1.0, 3.0]), numbers, (), "y", 1)] == ["residuals"]


AWKWARD = ["$x^{2$", "a\nb\x1b[31m", "名前", "<script>", "", "ü" * 200]


@pytest.mark.parametrize(
    "figure",
    [
        figures.importance({name: index / 3 for index, name in enumerate(AWKWARD)}),
        figures.importance({f"f{index}": -index for index in range(300)}),
        figures.confusion_matrix(np.arange(6), np.arange(6), AWKWARD),
        figures.confusion_matrix(np.arange(40), np.arange(40), tuple(range(40))),
        figures.residuals(np.array([1.0, 1.0]), np.array([1.0, 1e300]), "$y$", 1),
        figures.roc_curve(np.array([0, 1]), np.array([0.5, 0.5]), "$"),
    ],
    ids=lambda figure: figure.name,
)
def test_every_figure_is_drawn_small_and_its_data_are_json(figure: Figure, tmp_path: Path) -> None:
    plots.draw(figure, tmp_path / "plot.png")
    content = (tmp_path / "plot.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000
    text = json.dumps(figure.to_json(), allow_nan=False)
    assert len(text) < 30_000
    assert "\\u001b" not in text


def test_drawing_leaves_matplotlibs_settings_and_its_global_state_alone(tmp_path: Path) -> None:
    import sys

    import matplotlib as mpl

    plots.draw(figures.importance({"a": 1.0}), tmp_path / "plot.png")
    assert mpl.rcParams["text.parse_math"] is True
    assert "matplotlib.pyplot" not in sys.modules
