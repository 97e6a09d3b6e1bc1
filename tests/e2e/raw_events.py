"""What the panels of runs must show, computed from the raw records of runs.lifecycle and nothing of the services."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

Record = Mapping[str, Any]
ENDS = {f"trainyard.run.{state}": state for state in ("completed", "failed", "cancelled", "rejected")}
TRAINING_ENDS = {f"trainyard.attempt.{end}" for end in ("succeeded", "failed", "lost", "cancelled")}
ATTEMPT_ENDS = {kind: kind.removeprefix("trainyard.").replace(".", "_") for kind in TRAINING_ENDS}


def lives(records: Iterable[Record]) -> list[dict[str, Record]]:
    """The records of every run, the first of each type: none here has a second attempt."""
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        found.setdefault(record["data"]["run_id"], {}).setdefault(record["type"], record)
    return list(found.values())


def end_of(life: Mapping[str, Record]) -> tuple[str, Record] | None:
    """How a run ended, and the record that says so."""
    return next(((ENDS[kind], record) for kind, record in life.items() if kind in ENDS), None)


def ended(records: Iterable[Record]) -> Counter[tuple[str, str, str]]:
    """The runs that have ended, by state, trainer and reason."""
    found: Counter[tuple[str, str, str]] = Counter()
    for life in lives(records):
        if (end := end_of(life)) is not None:
            state, record = end
            accepted = life.get("trainyard.run.accepted")
            request = accepted["data"]["request"] if accepted else {}
            found[state, str(request.get("trainer", "other")), str(record["data"].get("reason") or "")] += 1
    return found


def attempts_ended(records: Iterable[Record]) -> Counter[str]:
    """The attempts that have ended, by state."""
    return Counter(ATTEMPT_ENDS[kind] for life in lives(records) for kind in life if kind in ATTEMPT_ENDS)


def phases(records: Iterable[Record]) -> dict[str, list[float]]:
    """Seconds of the parts of each run's life, sorted."""
    found: dict[str, list[float]] = {"dispatch": [], "queue": [], "training": [], "total": []}
    for life in lives(records):
        at = {kind.removeprefix("trainyard."): _seconds(record) for kind, record in life.items()}
        if "attempt.dispatched" in at:
            found["dispatch"].append(at["attempt.dispatched"] - at["run.accepted"])
        if "attempt.started" in at:
            since = at.get("attempt.queued", at["attempt.dispatched"])
            found["queue"].append(max(0.0, at["attempt.started"] - since))
            over = next((at[k.removeprefix("trainyard.")] for k in life if k in TRAINING_ENDS), None)
            if over is not None:
                found["training"].append(over - at["attempt.started"])
        if "run.accepted" in at and (end := end_of(life)) is not None:
            found["total"].append(_seconds(end[1]) - at["run.accepted"])
    return {phase: sorted(durations) for phase, durations in found.items()}


def _seconds(record: Record) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()
