"""ClearML over REST: an async client that says, after every failure, whether the call may have been executed."""

from trainyard_runtime.clearml.client import ClearMLClient
from trainyard_runtime.clearml.errors import (
    ClearMLError,
    ClearMLRefused,
    ClearMLUnavailable,
    ClearMLUnknownOutcome,
    Subcode,
)
from trainyard_runtime.clearml.models import log_event, plot_event, scalar_event
from trainyard_runtime.clearml.settings import ClearMLSettings
from trainyard_runtime.clearml.values import (
    AddedEvents,
    Queue,
    QueueEntry,
    StatusChange,
    hyperparam_value,
    hyperparams,
)

__all__ = [
    "AddedEvents",
    "ClearMLClient",
    "ClearMLError",
    "ClearMLRefused",
    "ClearMLSettings",
    "ClearMLUnavailable",
    "ClearMLUnknownOutcome",
    "Queue",
    "QueueEntry",
    "StatusChange",
    "Subcode",
    "hyperparam_value",
    "hyperparams",
    "log_event",
    "plot_event",
    "scalar_event",
]
