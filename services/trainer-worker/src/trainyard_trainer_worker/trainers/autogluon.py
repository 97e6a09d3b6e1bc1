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
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
from autogluon.core.callbacks import AbstractCallback
from autogluon.tabular import TabularPredictor

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Artifact, AttemptError, Detail, clean, invalid_request
from trainyard_trainer_worker.trainers import autogluon_args
from trainyard_trainer_worker.trainers.autogluon_model import FOLDER, FORMAT, LOAD, TabularModel, quiet_about_torch
from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Reporter, SavedFolder
from trainyard_trainer_worker.training.jsonsafe import json_safe

MIN_BUDGET_S = 1.0
GRACE_S = 1.5
"""How far beyond the budget AutoGluon may go before it is interrupted: its limits per model are soft."""

SUMMARY_FILE = "fit_summary.json"
_NO_MEMORY = frozenset({"MemoryError", "NotEnoughMemoryError"})
_NO_TIME = frozenset({"TimeLimitExceeded"})


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
        progress = _Progress(task, reporter)
        predictor = _fit(task, fit_args, folder, progress, reporter)
        best = str(predictor.model_best)
        board = _leaderboard(predictor, greater_is_better=task.metric.greater_is_better)
        artifacts = _fit_summary(predictor, task) if task.extras.get("fit_summary", False) else ()
        summary = {
            "models": len(board),
            "best_model": best,
            "best_validation_value": board[0]["validation_value"] if board else None,
            "inner_metric": autogluon_args.eval_metric(task),
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
            config=json_safe({"fit_args": fit_args, "eval_metric": autogluon_args.eval_metric(task)}),
            summary=json_safe(summary),
            artifacts=artifacts,
            folder=SavedFolder(saved, FOLDER, FORMAT, LOAD),
            leaderboard=board if task.extras.get("leaderboard", True) else (),
            importance=functools.partial(_importance, model, importance_args),
        )


def _fit(
    task: FitTask, fit_args: Mapping[str, Any], folder: Path, progress: _Progress, reporter: Reporter
) -> TabularPredictor:
    names = [column.name for column in task.columns]
    label = autogluon_args.free_name("label", names)
    data = task.features.assign(**{label: task.target})
    learner: dict[str, Any] = {"random_state": task.seed, "label_count_threshold": 1}
    structure = None
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
        structure = {"group_on": group}
    predictor = TabularPredictor(
        label=label,
        problem_type=_problem_type(task),
        eval_metric=autogluon_args.eval_metric(task),
        path=str(folder),
        verbosity=2,
        learner_kwargs=learner,
    )
    budget_s = max(MIN_BUDGET_S, task.time_budget_s)
    try:
        with _interrupted_after(budget_s + GRACE_S):
            predictor.fit(
                data,
                time_limit=budget_s,
                num_cpus=task.n_jobs,
                num_gpus=autogluon_args.num_gpus(),
                memory_limit=_memory_limit_gib(),
                callbacks=[progress],
                calibrate_decision_threshold=False,  # a class is the most probable one, here as everywhere
                raise_on_no_models_fitted=False,
                **({} if structure is None else {"validation_structure": structure}),
                **fit_args,
            )
    except _TimeUp:
        predictor = _salvaged(folder, task, progress, reporter)
    except (ValueError, TypeError, AssertionError, KeyError) as error:
        if progress.begun or not fit_args:
            raise
        raise invalid_request(  # AutoGluon judges its settings before it trains a model
            Detail.FIELD_INVALID, f"extras.autogluon.fit_args do not suit AutoGluon: {clean(error, 300)}"
        ) from error
    failed = _failures(predictor)
    if not predictor.model_names(can_infer=True):
        raise _no_model(task, fit_args, failed)
    for model, why in failed.items():
        reporter.warn(f"AutoGluon left out {clean(model, 60)}: {why}")
    return predictor


def _salvaged(folder: Path, task: FitTask, progress: _Progress, reporter: Reporter) -> TabularPredictor:
    """What was trained when the time was up. Raises AttemptError where that is nothing."""
    try:
        predictor = TabularPredictor.load(str(folder))
    except FileNotFoundError:
        raise _no_model(task, {}, {}) from None
    reporter.warn(
        f"AutoGluon did not end within time_budget_s = {task.time_budget_s:g}; the best of the "
        f"{progress.trained} models that it had trained by then was kept"
    )
    return predictor


def _no_model(task: FitTask, fit_args: Mapping[str, Any], failed: Mapping[str, str]) -> Exception:
    kinds = {why.partition(":")[0] for why in failed.values()}
    if kinds and kinds <= _NO_MEMORY:
        return MemoryError("no model fits into the memory")
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


def _leaderboard(predictor: TabularPredictor, *, greater_is_better: bool) -> tuple[dict[str, Any], ...]:
    """The models on the inner validation, the best first. AutoGluon negates errors; `validation_value` is not."""
    sign = 1.0 if greater_is_better else -1.0
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
    return model.importance(features, truth, {"time_limit": limit_s, "num_shuffle_sets": 3, **asked})


class _TimeUp(BaseException):
    """The budget is used up. Not an Exception: AutoGluon takes those for a model that failed, and trains on."""


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raise `_TimeUp` in the body when it takes longer. Signals reach the main thread only; elsewhere this does
    nothing, and AutoGluon's own limit holds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class _Progress(AbstractCallback):  # type: ignore[misc] # the library ships no types
    """Reports every trained model as progress and as a point of a plot. AutoGluon calls it between models."""

    def __init__(self, task: FitTask, reporter: Reporter) -> None:
        super().__init__()
        self._metric = task.metric
        self._budget_s = task.time_budget_s
        self._reporter = reporter
        self._since = time.monotonic()
        self._best: float | None = None
        self.begun = 0
        self.trained = 0

    def __deepcopy__(self, _memo: object) -> _Progress:
        return self  # AutoGluon copies its arguments for trial fits; the reporter's pipe is one

    def __reduce__(self) -> tuple[Any, ...]:
        return (AbstractCallback, ())  # a predictor saved in mid-fit must load without Trainyard

    def _before_model_fit(self, trainer: Any, model: Any, **_: Any) -> tuple[bool, bool]:
        self.begun += 1
        return False, False

    def _after_model_fit(self, trainer: Any, model_names: Sequence[str], **_: Any) -> bool:
        for name in model_names:
            self._trained(name, trainer.get_model_attribute(name, "val_score"))
        return False

    def _trained(self, name: str, score: float | None) -> None:
        self.trained += 1
        left_s = max(0.0, self._budget_s - (time.monotonic() - self._since))
        figures = {}
        if score is not None:
            self._best = score if self._best is None else max(self._best, score)
            sign = 1.0 if self._metric.greater_is_better else -1.0
            self._reporter.scalar(f"validation {self._metric.name}", name, sign * score, self.trained)
            figures = {f"best_validation_{self._metric.name}": sign * self._best}
        self._reporter.progress(self.trained, None, round(left_s, 3), figures)
