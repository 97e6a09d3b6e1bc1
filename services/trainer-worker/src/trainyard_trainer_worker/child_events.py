"""What a training child tells its parent while it works: one JSON object per line on an inherited pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

_NO_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "Cannot allocate memory",
    "MemoryError",
    "Memory allocation still failed",  # OpenBLAS, which then ends the process with status 1
)


def tells_of_no_memory(text: str) -> bool:
    """Whether a library says in this that it got no memory: C++ and Fortran ones know no MemoryError."""
    return any(sign in text for sign in _NO_MEMORY)


class Phase(StrEnum):
    """The steps of one attempt, in order. `import` is the loading of the libraries, `report` the drawing of plots."""

    IMPORT = "import"
    DATA = "data"
    SPLIT = "split"
    FIT = "fit"
    EVALUATE = "evaluate"
    IMPORTANCE = "importance"
    PACK = "pack"
    REPORT = "report"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase began."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase ended well, after `seconds` of wall time."""

    phase: Phase
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the fit is: `step` of `total` (None: unknown), seconds left (None: unknown), figures so far."""

    step: int
    total: int | None
    eta_s: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One point of a plot, with ClearML's names."""

    title: str
    series: str
    value: float
    iteration: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know and that did not end the attempt. Also among the results."""

    message: str


@dataclass(frozen=True, slots=True)
class Console:
    """One line that the child printed, without its end. `stream` is stdout or stderr (or `trainyard` for our notes)."""

    stream: str
    line: str


ChildEvent = PhaseStarted | PhaseEnded | Progress | Scalar | Warned | Console

_KINDS: dict[str, type[PhaseStarted | PhaseEnded | Progress | Scalar | Warned]] = {
    "phase_started": PhaseStarted,
    "phase_ended": PhaseEnded,
    "progress": Progress,
    "scalar": Scalar,
    "warned": Warned,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(event: PhaseStarted | PhaseEnded | Progress | Scalar | Warned) -> bytes:
    """One line, with its end. Raises ValueError for not-a-number and infinity: the sender filters them."""
    return json.dumps({"event": _NAMES[type(event)], **asdict(event)}, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> ChildEvent:
    """The event in `line`. Raises ValueError, KeyError or TypeError where it is none."""
    data: Any = json.loads(line)
    if not isinstance(data, dict):
        raise TypeError("an event is a JSON object")
    kind = _KINDS[data.pop("event")]
    if "phase" in data:
        data["phase"] = Phase(data["phase"])
    return kind(**data)
