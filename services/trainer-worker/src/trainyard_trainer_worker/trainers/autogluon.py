"""AutoGluon, mode tabular: several models and an ensemble of them within a time budget.

`extras.autogluon`: `fit_args` (`autogluon_args.FIT_ARGS`), `leaderboard`, `fit_summary`, `feature_importance`,
`feature_importance_args`. Nothing is fetched from the network.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from autogluon.tabular import TabularPredictor

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Artifact, AttemptError, Detail, clean, invalid_request
from trainyard_trainer_worker.trainers import autogluon_args
from trainyard_trainer_worker.trainers.autogluon_control import Progress, TimeUp, interrupted_after
from trainyard_trainer_worker.trainers.autogluon_model import FOLDER, FORMAT, LOAD, TabularModel, quiet_about_torch
from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Reporter, SavedFolder
from trainyard_trainer_worker.training.jsonsafe import json_safe

MIN_BUDGET_S = 1.0
LIMIT_SHARE = 0.95
"""What AutoGluon is told of the budget: it overran 30 s by 2 s on a busy machine; copying the predictor counts too."""

REFIT_SHARE = 0.75
"""The same where the models are fitted once more on all rows: AutoGluon does that after its limit."""

GRACE_S = 1.0
"""How far beyond the budget it may go before it is interrupted: its limits per model are soft."""

SUMMARY_FILE = "fit_summary.json"
_NO_MEMORY = frozenset({"MemoryError", "NotEnoughMemoryError"})
_NO_TIME = frozenset({"TimeLimitExceeded"})


IMPORTANCE_ROWS = 1_000
"""With AutoGluon's 5,000 a bagged ensemble took 20 s where it was given 10."""

UNDEFINED = "not defined"
"""What scikit-learn says of a metric that cannot be computed."""


class AutoGluonTabular:
    """Runs `TabularPredictor.fit` and keeps the smallest predictor that predicts as the best one does."""

    name = "autogluon"
    libraries = ("autogluon.tabular", "lightgbm", "xgboost-cpu", "scikit-learn", "pandas", "numpy")

    def fit(self, task: FitTask, reporter: Reporter) -> FittedModel:
        """See `Trainer.fit`. The inner validation is by groups where the split is, bagged or not."""
        os.environ["HF_HUB_OFFLINE"] = "1"
        quiet_about_torch()
        fit_args = autogluon_args.read_fit_args(task, reporter)
        importance_args = autogluon_args.read_importance_args(task)
        folder = task.work_dir / "autogluon"
        progress = Progress(task, reporter)
        predictor = _fit(task, fit_args, folder, progress, reporter)
        best, inner_metric = str(predictor.model_best), str(predictor.eval_metric.name)
        board = _leaderboard(predictor)
        artifacts = _fit_summary(predictor, task) if task.extras.get("fit_summary", False) else ()
        summary = {
            "models": len(board),
            "best_model": best,
            "best_validation_value": board[0]["validation_value"] if board else None,
            "inner_metric": inner_metric,
            "inner_validation": "chosen by AutoGluon" if task.groups is None else "by group",
            "failed_models": _failures(predictor),
        }
        saved = task.work_dir / FOLDER
        clone = predictor.clone_for_deployment(str(saved), return_clone=True, dirs_exist_ok=True)
        model = TabularModel(clone)
        shutil.rmtree(folder, ignore_errors=True)
        return FittedModel(
            pipeline=model,
            estimator=best,
            config=json_safe({"fit_args": fit_args, "eval_metric": inner_metric}),
            summary=json_safe(summary),
            artifacts=artifacts,
            folder=SavedFolder(saved, FOLDER, FORMAT, LOAD),
            leaderboard=board if task.extras.get("leaderboard", True) else (),
            importance=functools.partial(_importance, model, importance_args),
        )


def _fit(
    task: FitTask, fit_args: Mapping[str, Any], folder: Path, progress: Progress, reporter: Reporter
) -> TabularPredictor:
    """Fit by the run's metric; where that is not defined on the inner validation (a class is missing there, or it has
    one row), again by one that always is, in what is left of the budget."""
    ends = time.monotonic() + max(MIN_BUDGET_S, task.time_budget_s)
    metric = autogluon_args.eval_metric(task)
    spare = "log_loss" if task.is_classification else "root_mean_squared_error"
    while True:
        budget_s = max(MIN_BUDGET_S, ends - time.monotonic())
        try:
            predictor = _fit_by(metric, task, fit_args, folder, progress, reporter, budget_s)
            failed = _failures(predictor)
        except _Undefined:
            failed = {"all models": UNDEFINED}
        else:
            if predictor.model_names(can_infer=True):
                break
        if metric == spare or not failed or not all(UNDEFINED in why for why in failed.values()):
            raise _no_model(task, fit_args, failed, progress)
        reporter.warn(f"{metric} is not defined on AutoGluon's inner validation; {spare} took its place there")
        progress.start_over(spare, greater_is_better=False)
        metric = spare
        shutil.rmtree(folder, ignore_errors=True)
    for model, why in failed.items():
        reporter.warn(f"AutoGluon left out {clean(model, 60)}: {why}")
    return predictor


def _fit_by(
    metric: str,
    task: FitTask,
    fit_args: Mapping[str, Any],
    folder: Path,
    progress: Progress,
    reporter: Reporter,
    budget_s: float,
) -> TabularPredictor:
    names = [column.name for column in task.columns]
    label = autogluon_args.free_name("label", names)
    data = task.features.assign(**{label: task.target})
    learner: dict[str, Any] = {"random_state": task.seed, "label_count_threshold": 1}
    structure: dict[str, Any] = {}
    if task.groups is not None:
        if len(set(task.groups.tolist())) < 2:
            raise invalid_request(
                Detail.FIELD_INVALID,
                "group_key leaves one group for training; AutoGluon validates by groups and needs two: lower "
                "split.test_size",
            )
        group = autogluon_args.free_name("group", [*names, label])
        data[group] = task.groups
        learner["ignored_columns"] = [group]  # splits are made by it, and no model sees it
        structure = {"validation_structure": {"group_on": group}}
    predictor = TabularPredictor(
        label=label,
        problem_type=_problem_type(task),
        eval_metric=metric,
        path=str(folder),
        verbosity=2,
        learner_kwargs=learner,
    )
    try:
        with interrupted_after(budget_s + GRACE_S), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_quantiles ")  # its linear model, on every small table
            predictor.fit(
                data,
                time_limit=budget_s * (REFIT_SHARE if autogluon_args.refits(fit_args) else LIMIT_SHARE),
                num_cpus=task.n_jobs,
                num_gpus=autogluon_args.num_gpus(),
                memory_limit=_memory_limit_gib(),
                callbacks=[progress],
                calibrate_decision_threshold=False,  # a class is the most probable one, here as everywhere
                raise_on_no_models_fitted=False,
                save_bag_folds=True,  # else nothing is left when the time is up before the last fit
                **structure,
                **fit_args,
            )
    except TimeUp:
        return _salvaged(folder, task, progress, reporter)
    except (ValueError, TypeError, AssertionError, KeyError) as error:
        if progress.undefined:  # AutoGluon looks for the model that it has just thrown away
            raise _Undefined from error
        if "Not enough time left to train models" in str(error):
            raise _no_model(task, fit_args, {}, progress) from error
        if progress.begun or not fit_args:
            raise
        raise invalid_request(  # AutoGluon judges its settings before it trains a model
            Detail.FIELD_INVALID, f"extras.autogluon.fit_args do not suit AutoGluon: {clean(error, 300)}"
        ) from error
    return predictor


class _Undefined(Exception):
    """The metric is not a number on the inner validation."""


def _salvaged(folder: Path, task: FitTask, progress: Progress, reporter: Reporter) -> TabularPredictor:
    """What was trained when the time was up. Raises AttemptError where that is nothing."""
    try:
        predictor = TabularPredictor.load(str(folder))
    except FileNotFoundError:
        raise _no_model(task, {}, {}, progress) from None
    reporter.warn(
        f"AutoGluon did not end within time_budget_s = {task.time_budget_s:g}; the best of the "
        f"{progress.trained} models that it had trained by then was kept"
    )
    return predictor


def _no_model(task: FitTask, fit_args: Mapping[str, Any], failed: Mapping[str, str], progress: Progress) -> Exception:
    kinds = {why.partition(":")[0] for why in failed.values()}
    if kinds and kinds <= _NO_MEMORY:
        return MemoryError("no model fits into the memory")
    if not progress.begun and {"included_model_types", "excluded_model_types"} & fit_args.keys():
        return invalid_request(
            Detail.FIELD_INVALID,
            "extras.autogluon.fit_args leaves no model to train: included_model_types and excluded_model_types must "
            "leave one of hyperparameters",
        )
    said = clean("; ".join(f"{model}: {why}" for model, why in failed.items()), 400)
    if kinds and not kinds & _NO_TIME and "hyperparameters" in fit_args:
        return invalid_request(
            Detail.FIELD_INVALID, f"extras.autogluon.fit_args.hyperparameters: no model of them can be trained: {said}"
        )
    return AttemptError(
        Reason.TRAINER_ERROR,
        Detail.NO_MODEL,
        f"AutoGluon trained no model within time_budget_s = {task.time_budget_s:g}; raise it or choose lighter models"
        + (f" ({said})" if failed else ""),
    )


def _problem_type(task: FitTask) -> str:
    if not task.is_classification:
        return "regression"
    return "binary" if task.n_classes == 2 else "multiclass"


def _memory_limit_gib() -> float | str:
    """What this process may use, where that is bounded; else AutoGluon looks at the machine."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return "auto" if limit == resource.RLIM_INFINITY else limit / 2**30


def _failures(predictor: TabularPredictor) -> dict[str, str]:
    table = predictor.model_failures()
    return {str(row["model"]): f"{row['exc_type']}: {clean(row['exc_str'], 200)}" for _, row in table.iterrows()}


def _leaderboard(predictor: TabularPredictor) -> tuple[dict[str, Any], ...]:
    """The models on the inner validation, the best first. AutoGluon negates errors; `validation_value` is not."""
    sign = 1.0 if predictor.eval_metric.greater_is_better_internal else -1.0
    table = predictor.leaderboard(silent=True)
    return tuple(
        {
            "model": str(row["model"]),
            "validation_value": json_safe(None if pd.isna(row["score_val"]) else sign * float(row["score_val"])),
            "metric": str(row["eval_metric"]),
            "fit_seconds": json_safe(row["fit_time"]),
            "predict_seconds": json_safe(row["pred_time_val"]),
            "stack_level": int(row["stack_level"]),
            "fit_order": int(row["fit_order"]),
        }
        for _, row in table.iterrows()
    )


def _fit_summary(predictor: TabularPredictor, task: FitTask) -> tuple[Artifact, ...]:
    summary = predictor.fit_summary(verbosity=0, show_plot=False)
    text = json.dumps(json_safe(summary), indent=1, sort_keys=True, ensure_ascii=False)
    (task.work_dir / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
    return (Artifact("fit_summary", SUMMARY_FILE, "application/json"),)


def _importance(
    model: TabularModel, asked: Mapping[str, Any], features: pd.DataFrame, truth: Any, limit_s: float
) -> dict[str, dict[str, float]]:
    defaults = {"time_limit": limit_s, "num_shuffle_sets": 3, "subsample_size": IMPORTANCE_ROWS}
    return model.importance(features, truth, {**defaults, **asked})
