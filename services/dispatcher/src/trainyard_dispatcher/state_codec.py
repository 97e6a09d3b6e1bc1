"""A run's state as bytes, for the dispatcher's projection. Pure; equal states have equal bytes."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from trainyard_schemas.codec import canonical
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason, RunPhase

FOLD_VERSION = 4
"""Counts up when the fold or this form changes: then a projection starts over from the log."""

_FIELDS = tuple(field.name for field in fields(RunState))
_TUPLES = frozenset({"reprioritised_by"})


def encode_state(state: RunState) -> bytes:
    """The state as one JSON object."""
    return canonical({name: getattr(state, name) for name in _FIELDS})


def decode_state(value: bytes) -> RunState:
    """The state that `encode_state` wrote."""
    document: dict[str, Any] = json.loads(value)
    document["phase"] = RunPhase(document["phase"])
    if document["reason"] is not None:
        document["reason"] = Reason(document["reason"])
    for name in _TUPLES & document.keys():
        document[name] = tuple(document[name])
    return RunState(**document)
