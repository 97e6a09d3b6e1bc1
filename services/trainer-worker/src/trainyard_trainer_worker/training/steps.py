"""The phases between the import of the libraries and the check in a clean process."""

from __future__ import annotations

import csv
import json
import pickle
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard_trainer_worker import trainers
from trainyard_trainer_worker.child_events import Phase
from trainyard_trainer_worker.spec import MODEL_FILE, Artifact, AttemptSpec, ModelFile, TrainingRequest, clean, listed
from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Trainer
from trainyard_trainer_worker.training import evaluation, frames, packing, preparation
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.jsonsafe import json_safe
from trainyard_trainer_worker.training.preparation import Loaded, Parts

TOP_FEATURES = 50
IMPORTANCE_LIMIT_S = 10.0
IMPORTANCE_FILE = "feature_importance.csv"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """A packed model that has not been checked yet, its results so far, and the files beside it."""

    model: ModelFile
    results: Mapping[str, Any]
    importance: Mapping[str, float]
    artifacts: tuple[Artifact, ...]


def train(spec: AttemptSpec, request: TrainingRequest, trainer: Trainer, emitter: Emitter) -> Trained:
    """Run the phases in order. Raises AttemptError; anything else comes from a library."""
    with emitter.in_phase(Phase.DATA):
        loaded = preparation.load(request, spec.data_roots, emitter, spec.data)
    with emitter.in_phase(Phase.SPLIT):
        parts = preparation.divide(request, loaded, emitter)
    with emitter.in_phase(Phase.FIT), _noted_warnings(emitter):
        fitted = trainer.fit(_task(spec, request, loaded, parts), emitter)
    with emitter.in_phase(Phase.EVALUATE), _noted_warnings(emitter):
        figures = _evaluate(fitted, loaded, parts, emitter)
    with emitter.in_phase(Phase.IMPORTANCE), _noted_warnings(emitter):
        importance = _importance(request, fitted, loaded, parts, emitter)
    with emitter.in_phase(Phase.PACK):
        manifest = {
            "trainer": request.trainer,
            "estimator": fitted.estimator,
            "config": fitted.config,
            "task_type": loaded.target.task_type,
            "label": request.label,
            "classes": list(loaded.target.classes),
            "metric": loaded.metric.name,
            "value": figures["value"],
            "request": json_safe(spec.request),
            "request_sha256": packing.sha256(packing.canonical(json_safe(spec.request))),
            "data_sha256": loaded.sha256,
            "split": parts.split.proof(),
            "seed": request.seed,
            "versions": _versions(trainer),
        }
        model, prediction_sha256 = _pack(Path(spec.work_dir), manifest, fitted, loaded, parts)
    results = {
        "trainer": request.trainer,
        "task_type": loaded.target.task_type,
        **figures,
        "feature_importance": dict(list(importance.items())[:TOP_FEATURES]),
        "estimator": fitted.estimator,
        "config": fitted.config,
        "summary": fitted.summary,
        "n_rows": len(loaded.table),
        "n_columns": len(parts.columns),
        "classes": list(loaded.target.classes),
        "dataset": loaded.dataset,
        "split": parts.split.proof(),
        "seed": request.seed,
        "versions": manifest["versions"],
        "prediction_sha256": prediction_sha256,
    }
    return Trained(model, results, importance, fitted.artifacts)


def write_artifacts(
    work_dir: Path, request: TrainingRequest, trained: Trained, results: Mapping[str, Any]
) -> tuple[Artifact, ...]:
    """The trainer's own files, the importance as CSV, and, where `extras.<trainer>.summary` asks for it, the results
    as JSON."""
    files = list(trained.artifacts)
    if trained.importance:
        with (work_dir / IMPORTANCE_FILE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["feature", "importance"])
            writer.writerows(trained.importance.items())
        files.append(Artifact("feature_importance", IMPORTANCE_FILE, "text/csv"))
    if request.extras.get("summary", False):
        text = json.dumps(json_safe(results), indent=1, sort_keys=True, ensure_ascii=False)
        (work_dir / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
        files.append(Artifact("summary", SUMMARY_FILE, "application/json"))
    return tuple(files)


def _task(spec: AttemptSpec, request: TrainingRequest, loaded: Loaded, parts: Parts) -> FitTask:
    return FitTask(
        features=parts.train,
        target=parts.train_target,
        columns=parts.columns,
        n_classes=len(loaded.target.classes),
        groups=parts.train_groups,
        metric=loaded.metric,
        time_budget_s=request.time_budget_s,
        seed=request.seed,
        n_jobs=spec.n_jobs,
        extras=request.extras,
        work_dir=Path(spec.work_dir),
    )


def _evaluate(fitted: FittedModel, loaded: Loaded, parts: Parts, emitter: Emitter) -> dict[str, Any]:
    """All metrics of the task on the held-out part, beside the baseline's; the run's own metric first of all."""
    n_classes, metric, truth = len(loaded.target.classes), loaded.metric, parts.test_target
    predictions = evaluation.predict(fitted.pipeline, parts.test, n_classes)
    guess = evaluation.baseline(parts.train_target, len(truth), n_classes)
    metrics = evaluation.score_all(loaded.target.task_type, truth, predictions)
    baselines = evaluation.score_all(loaded.target.task_type, truth, guess)
    seen = evaluation.predict(fitted.pipeline, parts.train, n_classes)
    for name, figure in metrics.items():
        if figure is not None:
            emitter.scalar(name, "held-out", figure, 0)
    return {
        "metric": metric.name,
        "value": evaluation.defined(metric, metrics[metric.name], truth),
        "baseline": baselines[metric.name],
        "baseline_kind": "majority" if n_classes else "mean",
        "greater_is_better": metric.greater_is_better,
        "metrics": metrics,
        "baseline_metrics": baselines,
        "train_value": evaluation.score(metric.name, parts.train_target, seen),
    }


def _importance(
    request: TrainingRequest, fitted: FittedModel, loaded: Loaded, parts: Parts, emitter: Emitter
) -> dict[str, float]:
    """Permutation importance, unless `extras.<trainer>.feature_importance` is false."""
    if not request.extras.get("feature_importance", True):
        return {}
    limit_s = min(IMPORTANCE_LIMIT_S, max(1.0, request.time_budget_s))
    importance, left = evaluation.permutation_importance(
        fitted.pipeline,
        parts.test,
        parts.test_target,
        loaded.metric,
        len(loaded.target.classes),
        request.seed,
        limit_s,
    )
    if left:
        emitter.warn(f"feature importance ran out of its {limit_s:g} s; left out: {listed(left)}")
    return importance


def _pack(
    work_dir: Path, manifest: Mapping[str, Any], fitted: FittedModel, loaded: Loaded, parts: Parts
) -> tuple[ModelFile, str]:
    sampled = parts.test.head(packing.SAMPLE_ROWS)
    given = evaluation.predict(fitted.pipeline, sampled, len(loaded.target.classes))
    prediction_sha256 = packing.prediction_hash(given)
    model = packing.pack(
        work_dir / MODEL_FILE,
        {**manifest, "prediction_sha256": prediction_sha256},
        parts.columns,
        pickle.dumps(fitted.pipeline, protocol=5),
        packing.sample_of(frames.to_records(sampled), given),
    )
    return model, prediction_sha256


@contextmanager
def _noted_warnings(emitter: Emitter) -> Iterator[None]:
    """Pass the libraries' warnings on, each once, instead of printing them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for warning in caught:
        if not issubclass(warning.category, DeprecationWarning | FutureWarning | PendingDeprecationWarning):
            emitter.warn(f"{warning.category.__name__}: {clean(warning.message, 300)}")


def _versions(trainer: Trainer) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **trainers.versions(("trainyard-trainer-worker", *trainer.libraries)),
    }
