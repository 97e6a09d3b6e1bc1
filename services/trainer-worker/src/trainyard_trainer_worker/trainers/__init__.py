"""One file per AutoML library, found by the trainer's name and imported only when a run asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, Detail, clean, invalid_request
from trainyard_trainer_worker.trainers.base import Trainer

# Trainer name -> module of this package, class in it, and the extra that installs its libraries.
_ADAPTERS = {
    "autogluon": ("autogluon", "AutoGluonTabular", "autogluon"),
    "flaml": ("flaml", "FlamlTrainer", "flaml"),
    "sklearn": ("sklearn", "SklearnTrainer", "tabular"),
}

# What `extras.<trainer>.mode` may be, the default first.
_MODES = {"autogluon": ("tabular",)}


def available() -> tuple[str, ...]:
    """The trainers that this version has an adapter for, sorted."""
    return tuple(sorted(_ADAPTERS))


def load(name: str, extras: Mapping[str, Any] | None = None) -> Trainer:
    """Import the adapter of `name` and its libraries; `extras` is the trainer's namespace of the request.

    Raises AttemptError: trainer_unknown, field_invalid for a mode that is not there, or trainer_not_installed with the
    command that installs it.
    """
    if name not in _ADAPTERS:
        raise invalid_request(
            Detail.TRAINER_UNKNOWN, f"trainer is {clean(name)}; this worker has {', '.join(available())}"
        )
    modes = _MODES.get(name)
    mode = (extras or {}).get("mode")
    if modes is not None and mode is not None and mode not in modes:
        raise invalid_request(
            Detail.FIELD_INVALID,
            f"extras.{name}.mode is {clean(mode, 40)}; this worker has {', '.join(modes)}",
        )
    module, attribute, extra = _ADAPTERS[name]
    try:
        adapter = importlib.import_module(f"{__name__}.{module}")
    except ImportError as error:
        raise AttemptError(
            Reason.TRAINER_ERROR,
            Detail.TRAINER_NOT_INSTALLED,
            f"the trainer {name} needs {clean(error.name or error)}, which is not installed here; "
            f"install it with: pip install 'trainyard-trainer-worker[{extra}]'",
        ) from error
    trainer: Trainer = getattr(adapter, attribute)()
    return trainer


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of `distributions`; one that is not installed is left out."""
    found: dict[str, str] = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
