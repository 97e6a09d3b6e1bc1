"""What a check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"  # works, but worth knowing
    FAILS = "fails"  # the stack does not work: exit 5
    CHANGE = "change"  # something has to be changed first: exit 78


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, in a sentence that says what to do where it is not ok."""

    check: str
    level: Level
    message: str
