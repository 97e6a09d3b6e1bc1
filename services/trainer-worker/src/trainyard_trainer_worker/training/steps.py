"""The phases between the import of the libraries and the check in a clean process."""

from __future__ import annotations

import pickle
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard_trainer_worker import trainers
from trainyard_trainer_worker.child_events import Phase
from trainyard_trainer_worker.spec import MODEL_FILE, Artifact, AttemptSpec, ModelFile, TrainingRequest, clean, listed
from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Trainer
from trainyard_trainer_worker.training import analysis, evaluation, frames, packing, preparation, reports
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.evaluation import Predictions
from trainyard_trainer_worker.training.jsonsafe import json_safe
from trainyard_trainer_worker.training.preparation import Loaded, Parts
from trainyard_trainer_worker.training.reports import Importance, Reports

TOP_FEATURES = 50
IMPORTANCE_LIMIT_S = 10.0
TOP_MODELS = 20


@dataclass(frozen=True, slots=True)
class Trained:
    """A packed model that has not been checked yet, its results so far, and the files beside it."""

    model: ModelFile
    results: Mapping[str, Any]
    artifacts: tuple[Artifact, ...]


def train(
    spec: AttemptSpec, request: TrainingRequest, trainer: Trainer, emitter: Emitter, *, on_fit: Callable[[], object]
) -> Trained:
    """Run the phases in order; `on_fit` is called when the fit has been announced.

    Raises AttemptError; anything else comes from a library.
    """
    analysed = analysis.wanted(request.extras, f"extras.{request.trainer}")
    with emitter.in_phase(Phase.DATA):
        loaded = preparation.load(request, spec.data_roots, emitter, spec.data)
    with emitter.in_phase(Phase.SPLIT):
        parts = preparation.divide(request, loaded, emitter)
        evaluation.refuse_undefined(loaded.metric, parts.train_target, parts.test_target, len(loaded.target.classes))
    with emitter.in_phase(Phase.FIT), _noted_warnings(emitter):
        on_fit()
        fitted = trainer.fit(_task(spec, request, loaded, parts), emitter)
    with emitter.in_phase(Phase.EVALUATE), _noted_warnings(emitter):
        predictions = evaluation.predict(fitted.pipeline, parts.test, len(loaded.target.classes))
        figures = _evaluate(predictions, fitted, loaded, parts, emitter)
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
    with emitter.in_phase(Phase.REPORT), _noted_warnings(emitter):
        report = Reports(Path(spec.work_dir), emitter)
        report.leaderboard(fitted.leaderboard)
        report.importance(importance)
        report.held_out(predictions, loaded, parts, request.seed, request.label)
        report.analysis(analysed, fitted, loaded, parts, request.seed)
    results = {
        "trainer": request.trainer,
        "task_type": loaded.target.task_type,
        **figures,
        "feature_importance": dict(list(reports.plain(importance).items())[:TOP_FEATURES]),
        "leaderboard": list(fitted.leaderboard[:TOP_MODELS]),
        "estimator": fitted.estimator,
        "config": fitted.config,
        "summary": fitted.summary,
        "n_rows": len(loaded.table),
        "n_columns": len(parts.columns),
        "classes": list(loaded.target.classes),
        "positive_class": evaluation.positive_class(loaded.target.classes),
        "dataset": loaded.dataset,
        "split": parts.split.proof(),
        "seed": request.seed,
        "versions": manifest["versions"],
        "prediction_sha256": prediction_sha256,
    }
    return Trained(model, results, (*fitted.artifacts, *report.artifacts()))


def write_artifacts(
    work_dir: Path, request: TrainingRequest, trained: Trained, results: Mapping[str, Any]
) -> tuple[Artifact, ...]:
    """All files beside the model, with their hashes: the trainer's own, the reports, `metrics.json`, and where
    `extras.<trainer>.summary` asks for it all results as `summary.json`."""
    with_summary = bool(request.extras.get("summary", False))
    metrics = reports.write_metrics(work_dir, results, with_summary=with_summary)
    return reports.finished(work_dir, (*metrics, *trained.artifacts))


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


def _evaluate(
    predictions: Predictions, fitted: FittedModel, loaded: Loaded, parts: Parts, emitter: Emitter
) -> dict[str, Any]:
    """All metrics of the task on the held-out part, beside the baseline's; the run's own metric first of all."""
    n_classes, metric, truth = len(loaded.target.classes), loaded.metric, parts.test_target
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
) -> Importance:
    """Permutation importance, the library's own where it has one, unless `extras.<trainer>.feature_importance` is
    false."""
    if not request.extras.get("feature_importance", True):
        return {}
    limit_s = min(IMPORTANCE_LIMIT_S, max(1.0, request.time_budget_s))
    if fitted.importance is not None:
        try:
            return fitted.importance(parts.test, parts.test_target, limit_s)
        except (ValueError, AssertionError, KeyError) as error:  # a held-out part too small for the library's metric
            emitter.warn(f"feature importance could not be computed: {type(error).__name__}: {clean(error, 300)}")
            return {}
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
    return {name: {"importance": value} for name, value in importance.items()}


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
        _saved(fitted),
        packing.sample_of(frames.to_records(sampled), given),
    )
    return model, prediction_sha256


def _saved(fitted: FittedModel) -> packing.Saved:
    if fitted.folder is None:
        return packing.pickled(pickle.dumps(fitted.pipeline, protocol=5))
    return packing.folder(fitted.folder.path, fitted.folder.name, format=fitted.folder.format, load=fitted.folder.load)


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
