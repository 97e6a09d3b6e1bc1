"""What people and programs are shown of a run: pure, from the folded state, safe for any terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainyard_schemas import events as ev
from trainyard_schemas.codec import printable
from trainyard_schemas.envelope import format_time
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter.following import Followed
from trainyard_submitter.submission import Submission

REQUESTED = "requested"
_MOST_WARNINGS = 10
_WARNING_CHARS = 200


def run_json(state: RunState) -> dict[str, Any]:
    """One run as JSON: times RFC 3339 in UTC, `seconds` by phase, and what was reached beside the baseline."""
    request, results = state.request, state.results or {}
    return {
        "run_id": state.run_id,
        "run_name": request.get("run_name"),
        "project": request.get("project"),
        "trainer": request.get("trainer"),
        "state": state.phase.value,
        "attempt": state.attempt,
        "queue": state.queue,
        "task_id": state.task_id,
        "worker": state.worker,
        "priority": state.priority,
        "accepted_at": _time(state.accepted_at),
        "started_at": _time(state.started_at),
        "ended_at": _time(state.ended_at),
        "reason": state.reason.value if state.reason else None,
        "detail": state.detail,
        "message": state.message,
        "metric": results.get("metric", request.get("metric")),
        "value": results.get("value"),
        "baseline": results.get("baseline"),
        "seconds": seconds_by_phase(state),
        "model": results.get("model"),
    }


def seconds_by_phase(state: RunState) -> dict[str, float]:
    """How long each phase took: dispatch and queue as the log tells, then the worker's own, and the total."""
    seconds: dict[str, float] = {}
    if state.dispatched_at is not None:
        seconds["dispatch"] = _span(state.accepted_at, state.dispatched_at)
        if state.started_at is not None:
            seconds["queue"] = _span(state.dispatched_at, state.started_at)
    inner = (state.results or {}).get("seconds")
    if isinstance(inner, Mapping):
        seconds |= {str(k): float(v) for k, v in inner.items() if isinstance(v, int | float)}
    if state.ended_at is not None:
        seconds["total"] = _span(state.accepted_at, state.ended_at)
    return seconds


def files_of(state: RunState) -> list[dict[str, Any]]:
    """The model and the artifacts of a run's results: name, uri, sha256, bytes."""
    results = state.results or {}
    model, rest = results.get("model"), results.get("artifacts")
    named = [{**model, "name": "model"}] if isinstance(model, dict) and model.get("uri") else []
    named += [entry for entry in rest if isinstance(entry, dict)] if isinstance(rest, list) else []
    keys = ("name", "uri", "content_type", "sha256", "bytes")
    return [{key: entry[key] for key in keys if key in entry} for entry in named]


def submission_json(submission: Submission, state: str) -> dict[str, Any]:
    """An acknowledged request as JSON."""
    request, origin = submission.request, submission.origin
    return {
        "run_id": submission.run_id,
        "event_id": submission.event_id,
        "run_name": request.run_name,
        "project": request.project,
        "trainer": request.trainer,
        "state": state,
        "origin": ev.OriginRecord.of(origin).model_dump(),
        "warnings": list(submission.warnings),
    }


def event_json(followed: Followed) -> dict[str, Any]:
    """One event of a run as JSON: its envelope's essentials, its data, and what became of it in the fold."""
    event = followed.event
    return {
        "time": format_time(event.time),
        "type": event.type.value,
        "id": event.id,
        "source": event.source,
        "offset": followed.offset,
        "verdict": followed.verdict.value if followed.verdict else None,
        "data": ev.fact_json(event.fact),
    }


def headline(followed: Followed) -> str:
    """One event as one line for a person, without its time."""
    fact = followed.event.fact
    name = followed.event.type.short.partition(".")[2].replace("_", " ")
    match fact:
        case ev.AttemptDispatched():
            text = f"attempt {fact.attempt} to queue {fact.queue}, ClearML task {fact.task_id}"
        case ev.AttemptQueued():
            text = f"in queue {fact.queue}"
        case ev.AttemptStarted():
            text = f"by {fact.worker}"
        case ev.AttemptSucceeded():
            text = score(fact.results)
        case ev.AttemptHeartbeat():
            return progress(fact)
        case ev.RunCompleted():
            text = score(fact.results)
        case ev.RunRejected() | ev.AttemptFailed() | ev.RunFailed() | ev.AttemptCancelled() | ev.RunCancelled():
            text = why(fact.reason.value, fact.detail, fact.message)
        case ev.RunAccepted():
            text = "; ".join(fact.warnings)
        case _:
            text = getattr(fact, "message", "")
    if followed.event.type.short.startswith("attempt.") and name in ("succeeded", "failed", "cancelled", "lost"):
        name = f"attempt {name}"
    return printable(f"{name:<17} {text}".rstrip(), 240)


def score(results: Mapping[str, Any]) -> str:
    """`accuracy 0.972 (baseline 0.389)`; empty where there is none."""
    value, baseline = results.get("value"), results.get("baseline")
    if not isinstance(value, int | float):
        return ""
    beside = f" (baseline {number(baseline)})" if isinstance(baseline, int | float) else ""
    return f"{results.get('metric', 'value')} {number(value)}{beside}"


def top_features(results: Mapping[str, Any], most: int = 5) -> list[str]:
    """The columns that the model relies on most, `name 0.12`, the strongest first."""
    found = results.get("feature_importance")
    if not isinstance(found, Mapping):
        return []
    ranked = [(str(k), float(v)) for k, v in found.items() if isinstance(v, int | float)]
    ranked.sort(key=lambda item: -item[1])
    return [f"{printable(name, 60)} {number(value)}" for name, value in ranked[:most] if value > 0]


def warnings_of(state: RunState) -> list[str]:
    """What the training warned of, a line each; of many, the first and where the others stand."""
    found = (state.results or {}).get("warnings")
    lines = [line for line in found if isinstance(line, str)] if isinstance(found, list) else []
    shown = [printable(" ".join(line.split()), _WARNING_CHARS) for line in lines[:_MOST_WARNINGS]]
    if left := len(lines) - len(shown):
        shown.append(f"and {left} more: trainyard runs show {state.run_id[:8]} --json")
    return shown


def number(value: object) -> str:
    """A figure in four significant digits; `-` for anything else."""
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else "-"


def why(reason: str, detail: str | None, message: str) -> str:
    """Reason, detail and sentence of an end that nobody wanted."""
    return f"{reason}{f'/{detail}' if detail else ''}{f': {message}' if message else ''}"


def progress(fact: ev.AttemptHeartbeat) -> str:
    """A sign of life in one line: phase, step of total, time left, and up to three metrics."""
    parts = [fact.phase]
    if fact.step is not None:
        parts.append(f"{fact.step:.4g}" + (f"/{fact.total:.4g}" if fact.total is not None else ""))
    if fact.eta_s is not None:
        parts.append(f"{fact.eta_s:.0f} s left")
    parts += [f"{name} {number(value)}" for name, value in list(fact.metrics.items())[:3]]
    return printable(", ".join(parts), 160)


def name_of(state: RunState) -> str:
    """What a person calls the run."""
    return printable(state.request.get("run_name") or "-", 60)


def ending(state: RunState) -> str:
    """The last column of a list: the score of a completed run, why another one ended, where it is otherwise."""
    if state.phase is RunPhase.COMPLETED:
        return score(state.results or {})
    if state.reason is not None:
        return printable(why(state.reason.value, state.detail, state.message), 120)
    return f"queue {printable(state.queue)}" if state.queue and not state.is_ended else ""


def ago(seconds: float) -> str:
    """`8 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _time(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else format_time(epoch_s)


def _span(since: float, until: float) -> float:
    # Two hosts' clocks may disagree; a negative duration would only confuse.
    return round(max(0.0, until - since), 3)
