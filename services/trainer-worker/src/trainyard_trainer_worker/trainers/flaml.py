"""FLAML: a search over estimators and their settings within a time budget.

`extras.flaml`: `fit_args` with `estimator_list`, `max_iter`, `n_splits`, `early_stop`, `log_file_name`. FLAML's own
record of every trial is always kept as an artifact under that name.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import flaml
import numpy as np
from sklearn.pipeline import Pipeline

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Artifact, AttemptError, Detail, clean, invalid_request
from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Reporter
from trainyard_trainer_worker.trainers.features import build_features
from trainyard_trainer_worker.trainers.group_folds import Folds, covering_folds, lacks
from trainyard_trainer_worker.training.frames import Ints
from trainyard_trainer_worker.training.jsonsafe import json_safe

# CatBoost is left out on purpose: one of its trials ignores the time budget (43 s measured on iris).
ESTIMATORS = ("lgbm", "xgboost", "xgb_limitdepth", "rf", "extra_tree", "histgb", "kneighbor", "lrl1", "lrl2")
DEFAULT_ESTIMATORS = ("lgbm", "xgboost", "rf", "extra_tree")
_CLASSIFIERS_ONLY = frozenset({"lrl1", "lrl2"})
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "macro_f1",  # FLAML has none; the nearest that weighs classes alike
    "f1_macro": "macro_f1",
    "log_loss": "log_loss",
    "rmse": "rmse",
    "mae": "mae",
    "r2": "r2",
}
MIN_TRIALS = 2  # with max_iter=1 FLAML runs no trial at all
MIN_BUDGET_S = 1.0
CV_CELLS = 50_000  # rows x columns; FLAML's own bound shrinks with the budget, and a tenth of 455 rows says little
TAIL_EVERY_S = 0.25
_FIT_ARGS = frozenset({"estimator_list", "max_iter", "n_splits", "early_stop", "log_file_name"})
_EXTRAS = frozenset({"fit_args", "summary", "feature_importance", "analysis"})


class FlamlTrainer:
    """Runs `AutoML.fit` on the shared feature matrix and keeps the best native estimator, so that the model loads
    without FLAML."""

    name = "flaml"
    libraries = ("FLAML", "lightgbm", "xgboost-cpu", "scikit-learn", "pandas", "numpy")

    def fit(self, task: FitTask, reporter: Reporter) -> FittedModel:
        """See `Trainer.fit`. The inner validation is by groups where the split is (cross-validation, T20)."""
        settings, log_name = fit_settings(task, reporter)
        log = task.work_dir / log_name
        started = time.monotonic()
        features = build_features(task.columns, scale=False)
        matrix = features.fit_transform(task.features, task.target)
        settings["time_budget"] = max(MIN_BUDGET_S, settings["time_budget"] - (time.monotonic() - started))
        automl: Any = flaml.AutoML()
        tail = _LogTail(log, task, reporter)
        tail.start()
        try:
            automl.fit(matrix, task.target, log_file_name=str(log), **settings)
        finally:
            tail.stop()
        if automl.model is None or automl.best_estimator is None:
            raise AttemptError(
                Reason.TRAINER_ERROR,
                Detail.NO_MODEL,
                f"FLAML finished no trial within time_budget_s = {task.time_budget_s:g}; raise it",
            )
        model = _whole(automl.model.estimator, automl.best_model_for_estimator(automl.best_estimator), reporter)
        if "n_jobs" in model.get_params():
            model.set_params(n_jobs=1)  # prediction of small batches: starting threads costs more than they save
        summary = {
            "trials": tail.trials,
            "best_loss": json_safe(automl.best_loss),
            "best_iteration": json_safe(automl.best_iteration),
            "best_loss_per_estimator": json_safe(automl.best_loss_per_estimator),
            "inner_metric": settings["metric"],
            "inner_validation": _validation(settings),
            "estimators": settings["estimator_list"],
        }
        artifacts = (Artifact(log_name, log_name, "application/x-ndjson"),) if log.is_file() else ()
        return FittedModel(
            pipeline=Pipeline([("features", features), ("model", model)]),
            estimator=str(automl.best_estimator),
            config=json_safe(dict(automl.best_config or {})),
            summary=summary,
            artifacts=artifacts,
            leaderboard=_leaderboard(automl.best_loss_per_estimator, settings["metric"]),
        )


def _whole(final: Any, tried: Any, reporter: Reporter) -> Any:
    """The estimator to keep: the one fitted on all rows in the end, unless time ran out while it was fitted (FLAML then
    leaves it with fewer trees than it found best); then the trial's own, fitted on nine tenths of the rows."""
    best = getattr(tried, "estimator", None)  # no model of a trial is kept by cross-validation
    if best is None or final.get_params().get("n_estimators", 0) >= best.get_params().get("n_estimators", 0):
        return final
    reporter.warn("no time was left to fit the best model on all rows: the one of its trial is kept")
    return best


def _validation(settings: Mapping[str, Any]) -> str:
    if "groups" in settings or isinstance(settings.get("split_type"), Folds):
        return "cross-validation by group"
    return "cross-validation" if "eval_method" in settings else "chosen by FLAML"


def _leaderboard(losses: Mapping[str, float], metric: str) -> tuple[dict[str, Any], ...]:
    """The estimators by the best loss of their trials, as FLAML computes it (1 - accuracy, for example); those without
    a trial are left out."""
    tried = sorted((loss, name) for name, loss in losses.items() if math.isfinite(loss))
    return tuple({"model": name, "validation_loss": float(loss), "metric": metric} for loss, name in tried)


def fit_settings(task: FitTask, reporter: Reporter) -> tuple[dict[str, Any], str]:
    """Keyword arguments of `AutoML.fit`, and the log's file name."""
    args = task.extras.get("fit_args") or {}
    if not isinstance(args, Mapping):
        raise invalid_request(Detail.FIELD_INVALID, "extras.flaml.fit_args must be an object")
    for path, given, known in (("", task.extras, _EXTRAS), (".fit_args", args, _FIT_ARGS)):
        for key in sorted(set(given) - known):
            reporter.warn(f"extras.flaml{path}.{clean(key, 40)} is not supported and was ignored")
    budget_s = max(MIN_BUDGET_S, task.time_budget_s)
    settings: dict[str, Any] = {
        "task": "classification" if task.is_classification else "regression",
        "metric": _metric(task),
        "estimator_list": _estimators(args.get("estimator_list"), task),
        "time_budget": budget_s,
        "seed": task.seed,
        "n_jobs": task.n_jobs,
        "log_type": "all",
        "verbose": 0,
    }
    if args.get("max_iter") is not None:
        max_iter = _integer(args["max_iter"], "max_iter")
        if max_iter < MIN_TRIALS:
            reporter.warn(f"extras.flaml.fit_args.max_iter was raised to {MIN_TRIALS}: with one, FLAML tries nothing")
        settings["max_iter"] = max(MIN_TRIALS, max_iter)
    if args.get("early_stop") is not None:
        if not isinstance(args["early_stop"], bool):
            raise invalid_request(Detail.FIELD_INVALID, "extras.flaml.fit_args.early_stop must be true or false")
        settings["early_stop"] = args["early_stop"]
    if not settings.keys() & {"max_iter", "early_stop"}:
        # The best model is fitted on all rows in the end. Within the budget, or else 37 s for 30 (200,000 rows); where
        # something else may end the search, FLAML would leave it out.
        settings |= {"retrain_full": "budget", "model_history": True}
    n_splits = _integer(args["n_splits"], "n_splits") if args.get("n_splits") is not None else 5
    if not 2 <= n_splits <= len(task.target):
        raise invalid_request(
            Detail.FIELD_INVALID,
            f"extras.flaml.fit_args.n_splits must be 2 to {len(task.target)}, as many as there are training rows",
        )
    settings["n_splits"] = n_splits
    if task.groups is not None:
        settings |= _by_group(task, task.groups, settings, reporter)
    elif task.features.size < CV_CELLS:
        settings["eval_method"] = "cv"
    return settings, _log_name(args.get("log_file_name"))


def _by_group(task: FitTask, groups: Ints, settings: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Settings that keep groups whole in the inner validation, and every class in what is trained on there."""
    n_splits = min(settings["n_splits"], len(np.unique(groups)))
    if n_splits < 2:
        raise invalid_request(
            Detail.FIELD_INVALID,
            "group_key leaves one group for training; FLAML validates by groups and needs two: lower split.test_size",
        )
    by_group = {"eval_method": "cv", "n_splits": n_splits, "split_type": "group", "groups": groups}
    if not task.is_classification:
        return by_group
    folds = covering_folds(groups, task.target, n_splits)
    if len(folds.folds) < 2:
        raise invalid_request(
            Detail.FIELD_INVALID,
            "nearly every group holds all rows of a class, so that FLAML cannot validate by groups: use another "
            "group_key, or split.method row_shuffle",
        )
    settings_of_folds = {"eval_method": "cv", "n_splits": len(folds.folds), "split_type": folds}
    if settings["metric"].startswith("roc_auc") and lacks(folds, task.target, task.n_classes):
        reporter.warn(f"{settings['metric']} is not defined on FLAML's inner validation; log_loss took its place there")
        settings_of_folds["metric"] = "log_loss"
    if len(np.unique(task.target)) < task.n_classes:  # XGBoost takes no codes with gaps
        left = [name for name in settings["estimator_list"] if not name.startswith("xgb")]
        if not left:
            raise invalid_request(
                Detail.FIELD_INVALID,
                "a class is in the held-out part alone, and XGBoost cannot learn the others then: use another estimator"
                " in extras.flaml.fit_args.estimator_list, or another split",
            )
        if left != settings["estimator_list"]:
            reporter.warn("XGBoost was left out: a class is in the held-out part alone")
        settings_of_folds["estimator_list"] = left
    return settings_of_folds


def _metric(task: FitTask) -> str:
    binary = task.n_classes == 2
    if task.metric.name == "roc_auc":
        return "roc_auc" if binary else "roc_auc_ovr"
    if task.metric.name == "f1":
        return "f1" if binary else "macro_f1"
    return _METRICS[task.metric.name]


def _estimators(asked: object, task: FitTask) -> list[str]:
    known = [e for e in ESTIMATORS if task.is_classification or e not in _CLASSIFIERS_ONLY]
    if asked is None or asked == "auto":
        return list(DEFAULT_ESTIMATORS)
    if not isinstance(asked, list) or not asked:
        raise invalid_request(Detail.FIELD_INVALID, "extras.flaml.fit_args.estimator_list must be a list of names")
    for name in asked:
        if name not in known:
            why = " (it ignores the time budget)" if name == "catboost" else ""
            raise invalid_request(
                Detail.FIELD_INVALID,
                f"extras.flaml.fit_args.estimator_list holds {clean(name, 40)}, which is not offered{why}; "
                f"use {', '.join(known)}",
            )
    return list(dict.fromkeys(asked))


def _integer(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise invalid_request(Detail.FIELD_INVALID, f"extras.flaml.fit_args.{name} must be an integer")


def _log_name(asked: object) -> str:
    """A plain file name that cannot leave the work directory or hide one of our files."""
    name = PurePosixPath(str(asked or "flaml.log").replace("\\", "/")).name[:80]
    plain = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "_" for c in name).lstrip(".") or "flaml.log"
    return plain if plain.endswith((".log", ".jsonl", ".txt")) else plain + ".log"


class _LogTail(threading.Thread):
    """Follows FLAML's log, one JSON line per trial, and reports each as progress and a point of two plots."""

    def __init__(self, log: Path, task: FitTask, reporter: Reporter) -> None:
        super().__init__(name="flaml-log", daemon=True)
        self._log = log
        self._task = task
        self._reporter = reporter
        self._done = threading.Event()
        self._since = time.monotonic()
        self._offset = 0
        self._best = float("inf")
        self.trials = 0

    def run(self) -> None:
        while not self._done.wait(TAIL_EVERY_S):
            self._read()
        self._read()

    def stop(self) -> None:
        """Read what is left and end."""
        self._done.set()
        self.join(timeout=2.0)

    def _read(self) -> None:
        if not self._log.is_file():
            return
        with self._log.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            record = json.loads(line)
            if "validation_loss" in record:
                self._trial(float(record["validation_loss"]), str(record["learner"]))

    def _trial(self, loss: float, learner: str) -> None:
        self.trials += 1
        self._best = min(self._best, loss)
        self._reporter.scalar("validation loss", learner, loss, self.trials)
        self._reporter.scalar("best validation loss", "best", self._best, self.trials)
        left_s = max(0.0, self._task.time_budget_s - (time.monotonic() - self._since))
        self._reporter.progress(self.trials, None, round(left_s, 3), {"best_validation_loss": self._best})
