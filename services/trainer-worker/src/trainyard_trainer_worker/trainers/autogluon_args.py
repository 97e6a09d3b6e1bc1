"""What a request may ask of AutoGluon: `extras.autogluon`, judged before anything is trained."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autogluon.tabular.configs.presets_configs import tabular_presets_alias, tabular_presets_dict
from autogluon.tabular.registry import ag_model_registry

from trainyard_trainer_worker.spec import AttemptError, Detail, clean, invalid_request
from trainyard_trainer_worker.trainers.base import FitTask, Reporter

EXTRAS = frozenset(
    {"mode", "fit_args", "leaderboard", "feature_importance", "feature_importance_args", "fit_summary", "analysis",
     "summary"}
)  # fmt: skip

METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "f1": "f1",
    "f1_macro": "f1_macro",
    "log_loss": "log_loss",
    "roc_auc": "roc_auc",
    "rmse": "root_mean_squared_error",
    "mae": "mean_absolute_error",
    "r2": "r2",
}
_OF_MANY_CLASSES = {"f1": "f1_macro", "roc_auc": "roc_auc_ovr"}

# These need a GPU, models fetched from the network, or libraries that `autogluon.tabular` does not bring.
_PRESETS_WITH_MORE_NEEDS = ("extreme", "noncommercial", "tabarena", "interpretable", "experimental")
_CONFIGURATIONS = ("default", "light", "very_light", "toy", "zeroshot", "zeroshot_2025_12_18_cpu")

# What the worker or another field of the request decides.
_OURS = {
    "time_limit": "time_budget_s bounds the fit",
    "eval_metric": "metric chooses it",
    "num_cpus": "the worker's settings choose it",
    "num_gpus": "the worker uses the GPUs that it has",
    "validation_structure": "group_key with split.method group_shuffle keeps groups whole",
    "groups": "group_key with split.method group_shuffle keeps groups whole",
    "tuning_data": "split says what is held out",
}

Judge = Callable[[object], str | None]
"""None where the value is right, else what it must be."""


def _whole(low: int, high: int) -> Judge:
    def judge(value: object) -> str | None:
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if right else f"must be an integer from {low} to {high}"

    return judge


def _between(low: float, high: float) -> Judge:
    def judge(value: object) -> str | None:
        right = isinstance(value, int | float) and not isinstance(value, bool) and low < value < high
        return None if right else f"must be a number between {low:g} and {high:g}"

    return judge


def _truth(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _object(value: object) -> str | None:
    return None if isinstance(value, Mapping) else "must be an object"


def _names(value: object) -> str | None:
    right = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return None if right else "must be a list of names"


def _bag_folds(value: object) -> str | None:
    return _whole(0, 20)(value) if value != 1 else "is 1; use 0 for none, or 2 to 20"


def _presets(value: object) -> str | None:
    asked = value if isinstance(value, list) else [value]
    known = {**{name: name for name in tabular_presets_dict}, **tabular_presets_alias}
    offered = [name for name in known if not known[name].startswith(_PRESETS_WITH_MORE_NEEDS)]
    for name in asked:
        if not isinstance(name, str) or name not in offered:
            needs = " (it needs a GPU or libraries that this worker does not have)" if str(name) in known else ""
            return f"holds {clean(name, 40)}, which is not offered{needs}; use {', '.join(offered)}"
    return None


def _model_types(value: object) -> str | None:
    known = sorted(ag_model_registry.keys)
    wrong = _names(value) or next((name for name in value if name not in known), None)  # type: ignore[attr-defined]
    return wrong and (wrong if wrong.startswith("must") else f"holds {clean(wrong, 40)}; use {', '.join(known)}")


def _hyperparameters(value: object) -> str | None:
    if isinstance(value, str):
        known = ", ".join(_CONFIGURATIONS)
        return None if value in _CONFIGURATIONS else f"is {clean(value, 40)}; use an object, or one of {known}"
    if not isinstance(value, Mapping) or not value:
        return 'must be an object of models, such as {"GBM": {}}, or the name of a configuration'
    return _model_types(list(value)) or next((wrong for one in value.values() if (wrong := _settings(one))), None)


def _settings(value: object) -> str | None:
    several = value if isinstance(value, list) else [value]
    right = bool(several) and all(isinstance(item, Mapping | str) for item in several)
    return None if right else "must hold an object of settings, or a list of such, for every model"


FIT_ARGS: Mapping[str, Judge] = {
    "presets": _presets,
    "hyperparameters": _hyperparameters,
    "num_bag_folds": _bag_folds,
    "num_bag_sets": _whole(1, 20),
    "num_stack_levels": _whole(0, 3),
    "auto_stack": _truth,
    "dynamic_stacking": _truth,
    "use_bag_holdout": _truth,
    "holdout_frac": _between(0.0, 1.0),
    "fit_weighted_ensemble": _truth,
    "included_model_types": _model_types,
    "excluded_model_types": _model_types,
    "refit_full": _truth,
    "set_best_to_refit_full": _truth,
    "calibrate": _truth,
    "ag_args": _object,
    "ag_args_fit": _object,
    "ag_args_ensemble": _object,
}

IMPORTANCE_ARGS: Mapping[str, Judge] = {
    "num_shuffle_sets": _whole(1, 100),
    "subsample_size": _whole(2, 1_000_000),
    "time_limit": _between(0.0, 86_400.0),
    "include_confidence_band": _truth,
    "confidence_level": _between(0.0, 1.0),
    "features": _names,
}


def read_fit_args(task: FitTask, reporter: Reporter) -> dict[str, Any]:
    """`extras.autogluon.fit_args`, every key of it known and of the right kind. Raises AttemptError(field_invalid)."""
    for key in sorted(set(task.extras) - EXTRAS):
        reporter.warn(f"extras.autogluon.{clean(key, 40)} is unknown and was ignored")
    args = _judged(task.extras.get("fit_args"), "fit_args", FIT_ARGS)
    if args.get("num_stack_levels") and not (args.get("num_bag_folds") or args.get("auto_stack")):
        raise _wrong("fit_args.num_stack_levels", "needs num_bag_folds of 2 or more")
    return args


def read_importance_args(task: FitTask) -> dict[str, Any]:
    """`extras.autogluon.feature_importance_args`, judged likewise."""
    args = _judged(task.extras.get("feature_importance_args"), "feature_importance_args", IMPORTANCE_ARGS)
    known = [column.name for column in task.columns]
    for name in args.get("features", ()):
        if name not in known:
            raise _wrong("feature_importance_args.features", f"holds {clean(name, 40)}, which is no feature")
    return args


def eval_metric(task: FitTask) -> str:
    """AutoGluon's name of the run's metric."""
    if task.n_classes > 2 and task.metric.name in _OF_MANY_CLASSES:
        return _OF_MANY_CLASSES[task.metric.name]
    return METRICS[task.metric.name]


def refits(fit_args: Mapping[str, Any]) -> bool:
    """Whether AutoGluon fits its models once more, on all rows, when it is done."""
    if "refit_full" in fit_args:
        return bool(fit_args["refit_full"])
    presets = fit_args.get("presets") or []
    names = [tabular_presets_alias.get(name, name) for name in (presets if isinstance(presets, list) else [presets])]
    return any(tabular_presets_dict[name].get("refit_full", False) for name in names)


def num_gpus() -> int | str:
    """0 where there is no GPU that AutoGluon could use: it takes any other number without looking."""
    if importlib.util.find_spec("torch") is None:
        return 0
    return "auto" if importlib.import_module("torch").cuda.is_available() else 0


def _judged(given: object, where: str, judges: Mapping[str, Judge]) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _wrong(where, "must be an object")
    for key, value in given.items():
        if key in _OURS and where == "fit_args":
            raise _wrong(f"{where}.{key}", f"cannot be given: {_OURS[key]}")
        if key not in judges:
            raise _wrong(f"{where}.{clean(key, 40)}", f"is unknown; known are {', '.join(judges)}")
        if wrong := judges[key](value):
            raise _wrong(f"{where}.{key}", wrong)
    return dict(given)


def _wrong(where: str, what: str) -> AttemptError:
    return invalid_request(Detail.FIELD_INVALID, f"extras.autogluon.{where} {what}")


def free_name(wanted: str, taken: Sequence[str]) -> str:
    """`wanted`, with underscores before it until no column has that name."""
    while wanted in taken:
        wanted = f"_{wanted}"
    return wanted
