"""The files beside a model: leaderboard, importance, plots, analysis, metrics. A table or plot that cannot be made is
a warning, and never costs the model."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainyard_trainer_worker.model_facts import PLOTLY
from trainyard_trainer_worker.spec import Artifact, clean
from trainyard_trainer_worker.trainers.base import FittedModel
from trainyard_trainer_worker.training import figures
from trainyard_trainer_worker.training.analysis import Analysis, Unavailable
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.evaluation import Predictions
from trainyard_trainer_worker.training.jsonsafe import json_safe
from trainyard_trainer_worker.training.preparation import Loaded, Parts

CSV, JSON, PNG = "text/csv", "application/json", "image/png"
METRICS_FILE = "metrics.json"
SUMMARY_FILE = "summary.json"
Importance = Mapping[str, Mapping[str, float]]


class Reports:
    """Writes files into the folder of one attempt and remembers them as artifacts, in order."""

    def __init__(self, work_dir: Path, emitter: Emitter) -> None:
        self._work_dir = work_dir
        self._emitter = emitter
        self._artifacts: list[Artifact] = []

    def artifacts(self) -> tuple[Artifact, ...]:
        """What was written so far."""
        return tuple(self._artifacts)

    def leaderboard(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The models of a fit, the best first, as CSV and JSON."""
        if rows:
            self._csv("leaderboard", list(rows[0]), (list(row.values()) for row in rows))
            self._json("leaderboard_data", "leaderboard.json", list(rows))

    def importance(self, found: Importance) -> None:
        """Each feature's figures as CSV, and their order as a plot."""
        if found:
            names = list(next(iter(found.values())))
            rows = ([feature, *(values[name] for name in names)] for feature, values in found.items())
            self._csv("feature_importance", ["feature", *names], rows)
            self._attempt("the plot of the feature importance", lambda: self._figure(figures.importance(plain(found))))

    def held_out(self, predictions: Predictions, loaded: Loaded, parts: Parts, seed: int, label: str) -> None:
        """Plots of what the model does on the held-out part."""

        def draw_all() -> None:
            classes = loaded.target.classes
            for figure in figures.held_out(parts.test_target, predictions, classes, label, seed):
                self._figure(figure)

        self._attempt("the plots of the held-out part", draw_all)

    def analysis(self, wanted: Sequence[str], fitted: FittedModel, loaded: Loaded, parts: Parts, seed: int) -> None:
        """The parts of the analysis of the training data that were asked for, each as CSV."""
        if not wanted:
            return
        over = Analysis(parts.train, parts.train_target, parts.columns, loaded.target.classes, seed)
        for part in wanted:
            self._attempt(f"analysis.{part}", lambda part=part: self._table(part, over, fitted))  # type: ignore[misc]

    def _table(self, part: str, over: Analysis, fitted: FittedModel) -> None:
        name = f"analysis_{part}"
        over.table(part, fitted.pipeline).to_csv(self._work_dir / f"{name}.csv")
        self._add(name, f"{name}.csv", CSV)

    def _figure(self, figure: figures.Figure) -> None:
        from trainyard_trainer_worker.training import plots  # matplotlib takes half a second to import

        self._json(f"{figure.name}_data", f"{figure.name}.json", figure.to_json(), PLOTLY)
        plots.draw(figure, self._work_dir / f"{figure.name}.png")
        self._add(figure.name, f"{figure.name}.png", PNG)

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except MemoryError:
            raise
        except Unavailable as error:
            self._emitter.warn(f"{what} was left out: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a library stumbles over here, the model is good
            self._emitter.warn(f"{what} could not be made: {type(error).__name__}: {clean(error, 300)}")

    def _csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with (self._work_dir / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        self._add(name, f"{name}.csv", CSV)

    def _json(self, name: str, file: str, value: Any, content_type: str = JSON) -> None:
        write_json(self._work_dir / file, value)
        self._add(name, file, content_type)

    def _add(self, name: str, file: str, content_type: str) -> None:
        self._artifacts.append(Artifact(name, file, content_type))


def plain(found: Importance) -> dict[str, float]:
    """Importance as one number per feature."""
    return {feature: values["importance"] for feature, values in found.items()}


def write_metrics(work_dir: Path, results: Mapping[str, Any], *, with_summary: bool) -> tuple[Artifact, ...]:
    """`metrics.json`: the figures of the run's end, and with `with_summary` `summary.json`: all of its results."""
    names = ("trainer", "estimator", "task_type", "metric", "value", "baseline", "baseline_kind", "greater_is_better",
             "metrics", "baseline_metrics", "train_value", "dataset", "split", "seconds")  # fmt: skip
    write_json(work_dir / METRICS_FILE, {name: results[name] for name in names})
    artifacts = [Artifact("metrics", METRICS_FILE, JSON)]
    if with_summary:
        write_json(work_dir / SUMMARY_FILE, results)
        artifacts.append(Artifact("summary", SUMMARY_FILE, JSON))
    return tuple(artifacts)


def write_json(path: Path, value: Any) -> None:
    """JSON for people and programs: sorted keys, one line at the end."""
    text = json.dumps(json_safe(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def finished(work_dir: Path, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """The artifacts with the hashes and sizes of their files, which must not change any more."""
    done = []
    for artifact in artifacts:
        path = work_dir / artifact.path
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        done.append(Artifact(artifact.name, artifact.path, artifact.content_type, digest, path.stat().st_size))
    return tuple(done)
