"""One attempt from request to verified model: the phases in order, in the child process."""

from __future__ import annotations

import json
import pickle
import platform
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker import datasets
from trainyard_trainer_worker.child_events import Phase
from trainyard_trainer_worker.emitter import Emitter
from trainyard_trainer_worker.jsonsafe import json_safe
from trainyard_trainer_worker.spec import (
    MODEL_FILE,
    Artifact,
    AttemptError,
    AttemptSpec,
    Detail,
    ModelFile,
    Succeeded,
    TrainingRequest,
    listed,
    parse_request,
)

if TYPE_CHECKING:
    from trainyard_trainer_worker.frames import Column

TOP_FEATURES = 50
IMPORTANCE_LIMIT_S = 10.0
VERIFY_LIMIT_S = 120.0
IMPORTANCE_FILE = "feature_importance.csv"
SUMMARY_FILE = "summary.json"
_PRELOAD = {"flaml": "sklearn.ensemble,sklearn.compose,lightgbm,xgboost"}


def run(spec: AttemptSpec, emitter: Emitter) -> Succeeded:
    """Train, evaluate, pack and verify. Raises AttemptError; anything else comes from a library."""
    request = parse_request(spec.request)
    work_dir = Path(spec.work_dir)
    with _verifier(request.trainer) as verifier:
        return _run(spec, request, work_dir, emitter, verifier)


def _run(
    spec: AttemptSpec, request: TrainingRequest, work_dir: Path, emitter: Emitter, verifier: subprocess.Popen[str]
) -> Succeeded:
    with emitter.in_phase(Phase.IMPORT):
        from trainyard_trainer_worker import evaluation, frames, packing, splits, trainers

        trainer = trainers.load(request.trainer)

    with emitter.in_phase(Phase.DATA):
        raw = datasets.read_raw(request.dataset, spec.data_roots)
        table = datasets.parse_csv(raw.content)
        target = frames.make_target(table, request.label, request.task_type)
        metric = evaluation.choose_metric(request.metric, request.trainer, target.task_type)
        table = table.iloc[target.rows].reset_index(drop=True)
        if target.dropped_rows:
            emitter.warn(f"{target.dropped_rows} rows without a value in the label column were left out")

    with emitter.in_phase(Phase.SPLIT):
        groups = _groups(request, table, emitter)
        codes = target.values if target.classes else None
        if groups is None:
            split = splits.row_shuffle(target.rows, request.test_size, request.seed, codes)
        else:
            keys = "+".join(request.group_key)
            split = splits.group_shuffle(target.rows, groups, request.test_size, request.seed, codes, keys)
        columns = frames.infer_columns(table.iloc[split.train], (request.label, *request.group_key))
        _say_what_is_left_out(table, columns, request, emitter)
        train = frames.to_features(table.iloc[split.train], columns)
        test = frames.to_features(table.iloc[split.test], columns)
        y_train, y_test = target.values[split.train], target.values[split.test]
        n_classes = len(target.classes)

    with emitter.in_phase(Phase.FIT), _noted_warnings(emitter):
        from trainyard_trainer_worker.trainers.base import FitTask

        task = FitTask(
            features=train,
            target=y_train,
            columns=columns,
            n_classes=n_classes,
            groups=None if groups is None else groups[split.train],
            metric=metric,
            time_budget_s=request.time_budget_s,
            seed=request.seed,
            n_jobs=spec.n_jobs,
            extras=request.extras,
            work_dir=work_dir,
        )
        fitted = trainer.fit(task, emitter)

    with emitter.in_phase(Phase.EVALUATE), _noted_warnings(emitter):
        predictions = evaluation.predict(fitted.pipeline, test, n_classes)
        guess = evaluation.baseline(y_train, len(y_test), n_classes)
        metrics = evaluation.score_all(target.task_type, y_test, predictions)
        baselines = evaluation.score_all(target.task_type, y_test, guess)
        seen = evaluation.predict(fitted.pipeline, train, n_classes)
        value = evaluation.defined(metric, metrics[metric.name], y_test)
        for name, figure in metrics.items():
            if figure is not None:
                emitter.scalar(name, "held-out", figure, 0)

    with emitter.in_phase(Phase.IMPORTANCE), _noted_warnings(emitter):
        limit_s = min(IMPORTANCE_LIMIT_S, max(1.0, request.time_budget_s))
        importance: dict[str, float] = {}
        if request.extras.get("feature_importance", True):
            importance, left = evaluation.permutation_importance(
                fitted.pipeline, test, y_test, metric, n_classes, request.seed, limit_s
            )
            if left:
                emitter.warn(f"feature importance ran out of its {limit_s:g} s; left out: {listed(left)}")

    with emitter.in_phase(Phase.PACK):
        sampled = test.head(packing.SAMPLE_ROWS)
        given = evaluation.predict(fitted.pipeline, sampled, n_classes)
        manifest: dict[str, Any] = {
            "trainer": request.trainer,
            "estimator": fitted.estimator,
            "config": fitted.config,
            "task_type": target.task_type,
            "label": request.label,
            "classes": list(target.classes),
            "metric": metric.name,
            "value": value,
            "request": json_safe(spec.request),
            "request_sha256": packing.sha256(packing.canonical(json_safe(spec.request))),
            "data_sha256": raw.sha256,
            "split": split.proof(),
            "seed": request.seed,
            "versions": _versions(trainer.libraries),
            "prediction_sha256": packing.prediction_hash(given),
        }
        model = packing.pack(
            work_dir / MODEL_FILE,
            manifest,
            columns,
            pickle.dumps(fitted.pipeline, protocol=5),
            packing.sample_of(frames.to_records(sampled), given),
        )

    with emitter.in_phase(Phase.VERIFY):
        verified = _verify(verifier, work_dir, model)

    results = {
        "trainer": request.trainer,
        "task_type": target.task_type,
        "metric": metric.name,
        "value": value,
        "baseline": baselines[metric.name],
        "baseline_kind": "majority" if n_classes else "mean",
        "greater_is_better": metric.greater_is_better,
        "metrics": metrics,
        "baseline_metrics": baselines,
        "train_value": evaluation.score(metric.name, y_train, seen),
        "feature_importance": dict(list(importance.items())[:TOP_FEATURES]),
        "estimator": fitted.estimator,
        "config": fitted.config,
        "summary": fitted.summary,
        "n_rows": len(table),
        "n_columns": len(columns),
        "classes": json_safe(target.classes),
        "dataset": {"location": raw.location, "sha256": raw.sha256, "size_bytes": len(raw.content)},
        "split": split.proof(),
        "seed": request.seed,
        "versions": manifest["versions"],
        "prediction_sha256": manifest["prediction_sha256"],
        "verified": verified,
        **usage(emitter),
    }
    artifacts = (*fitted.artifacts, *_artifacts(work_dir, request, importance, results))
    return Succeeded(json_safe(results), model, artifacts)


def usage(emitter: Emitter) -> dict[str, Any]:
    """Seconds by phase, warnings, and what the process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": dict(emitter.seconds),
        "warnings": list(emitter.warnings),
        "peak_memory_mb": round(used.ru_maxrss / 1024, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
    }


def _groups(request: TrainingRequest, table: Any, emitter: Emitter) -> Any:
    """Group codes for group_shuffle. row_shuffle ignores the key, with a warning (the columns are no features either:
    they name groups that lie in both parts, and a model that learns the names looks better than it is)."""
    from trainyard_trainer_worker import splits

    if request.split_method == "group_shuffle":
        return splits.group_codes(table, request.group_key)
    if request.group_key:
        emitter.warn(
            f"split.method row_shuffle ignores group_key {listed(request.group_key)}: rows of one group may be in both "
            "parts; the columns were left out of the features. Use group_shuffle to keep groups whole"
        )
    return None


def _say_what_is_left_out(table: Any, columns: tuple[Column, ...], request: TrainingRequest, emitter: Emitter) -> None:
    used = {column.name for column in columns} | {request.label, *request.group_key}
    unused = [name for name in table.columns if name not in used]
    if unused:
        emitter.warn(f"columns without any value in the training part were left out: {listed(unused)}")


@contextmanager
def _noted_warnings(emitter: Emitter) -> Iterator[None]:
    """Pass the libraries' warnings on, each once, instead of printing them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for warning in caught:
        if not issubclass(warning.category, DeprecationWarning | FutureWarning | PendingDeprecationWarning):
            emitter.warn(f"{warning.category.__name__}: {str(warning.message).splitlines()[0][:300]}")


@contextmanager
def _verifier(trainer: str) -> Iterator[subprocess.Popen[str]]:
    """A clean process that loads its libraries while we train, so that verifying takes tenths of a second."""
    import os

    preload = _PRELOAD.get(trainer, "sklearn.ensemble,sklearn.compose")
    command = [sys.executable, "-m", "trainyard_trainer_worker.verify", "--wait", "--preload", preload]
    process = subprocess.Popen(
        [*command, "--parent-pid", str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _verify(verifier: subprocess.Popen[str], work_dir: Path, model: ModelFile) -> dict[str, Any]:
    task = json.dumps({"path": str(work_dir / model.path), "sha256": model.sha256})
    try:
        answer, _ = verifier.communicate(task + "\n", timeout=VERIFY_LIMIT_S)
        verdict: dict[str, Any] = json.loads(answer)
    except (subprocess.TimeoutExpired, ValueError, BrokenPipeError) as error:
        raise AttemptError(
            Reason.TRAINER_ERROR,
            Detail.MODEL_DIFFERS,
            f"the clean process that loads the model gave no answer ({type(error).__name__}, status "
            f"{verifier.poll()}); its message is in the console",
        ) from error
    if not verdict["ok"]:
        raise AttemptError(Reason.TRAINER_ERROR, Detail.MODEL_DIFFERS, f"the packed model failed: {verdict['problem']}")
    return verdict


def _versions(libraries: tuple[str, ...]) -> dict[str, str]:
    from trainyard_trainer_worker import trainers

    return {"python": platform.python_version(), **trainers.versions(("trainyard-trainer-worker", *libraries))}


def _artifacts(
    work_dir: Path, request: TrainingRequest, importance: Mapping[str, float], results: Mapping[str, Any]
) -> list[Artifact]:
    """The files beside the model that a user asked for: importance as CSV, the summary as JSON."""
    import csv

    files: list[Artifact] = []
    if importance:
        with (work_dir / IMPORTANCE_FILE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["feature", "importance"])
            writer.writerows(importance.items())
        files.append(Artifact("feature_importance", IMPORTANCE_FILE, "text/csv"))
    if request.extras.get("summary", False):
        text = json.dumps(json_safe(results), indent=1, sort_keys=True, ensure_ascii=False)
        (work_dir / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
        files.append(Artifact("summary", SUMMARY_FILE, "application/json"))
    return files
