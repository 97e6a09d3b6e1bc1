"""Queues and workers as the page shows them: ClearML's answers beside what the log says of open runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_runtime.clearml.values import Queue
from trainyard_schemas.codec import printable
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter.explaining import QueueFacts
from trainyard_submitter.gateway.run_document import Json


@dataclass(frozen=True, slots=True)
class Fleet:
    """What ClearML answered last: its queues, and its workers as it describes them."""

    queues: Sequence[Queue]
    workers: Sequence[Mapping[str, Any]]


def queues_json(fleet: Fleet | None, trouble: str, open_runs: Iterable[RunState]) -> Json:
    """Every queue: what waits in it and who serves it by ClearML, and the runs that wait or train by the log.

    Where ClearML does not answer, `clearml` says so, its figures are null and the queues are those that the log names.
    """
    runs = list(open_runs)
    names = sorted({queue.name for queue in fleet.queues} if fleet else {state.queue for state in runs if state.queue})
    return {
        "clearml": trouble or "ok",
        "not_dispatched": sum(state.phase is RunPhase.ACCEPTED for state in runs),
        "queues": [
            {
                "name": printable(name),
                "entries": _entries(fleet, name),
                "workers": None if fleet is None else _serving(fleet, name),
                "waiting": sum(state.queue == name and state.phase is RunPhase.DISPATCHED for state in runs),
                "training": sum(state.queue == name and state.phase is RunPhase.STARTED for state in runs),
            }
            for name in names
        ],
    }


def workers_json(fleet: Fleet | None, trouble: str, open_runs: Iterable[RunState]) -> Json:
    """Every worker that ClearML knows: its queues, and the run that it trains where that is one of ours."""
    run_of_task = {state.task_id: state for state in open_runs if state.task_id}
    return {
        "clearml": trouble or "ok",
        "workers": [
            {
                "name": printable(worker.get("id"), 120),
                "queues": sorted(printable(name) for name in _queue_names(worker)),
                "last_seen_at": worker.get("last_activity_time") or worker.get("last_report_time"),
                "task_id": task_id,
                "run_id": run_of_task[task_id].run_id if task_id in run_of_task else None,
                "run_name": run_of_task[task_id].request.get("run_name") if task_id in run_of_task else None,
            }
            for worker in sorted(fleet.workers if fleet else (), key=lambda worker: str(worker.get("id")))
            for task_id in [_task_of(worker)]
        ],
    }


def facts_of(fleet: Fleet | None, state: RunState | None) -> QueueFacts | None:
    """What ClearML says of the queue that a run waits in; None where it says nothing."""
    if fleet is None or state is None or state.phase is not RunPhase.DISPATCHED:
        return None
    queue = next((queue for queue in fleet.queues if queue.id == state.queue_id), None)
    if queue is None:
        return None
    places = [place for place, entry in enumerate(queue.entries) if entry.task_id == state.task_id]
    serving = sorted(str(w.get("id")) for w in fleet.workers if queue.name in _queue_names(w))
    return QueueFacts(serving, places[0] if places else None)


def _entries(fleet: Fleet | None, name: str) -> int | None:
    return None if fleet is None else sum(len(queue.entries) for queue in fleet.queues if queue.name == name)


def _serving(fleet: Fleet, name: str) -> int:
    return sum(name in _queue_names(worker) for worker in fleet.workers)


def _queue_names(worker: Mapping[str, Any]) -> set[str]:
    queues = worker.get("queues")
    found = queues if isinstance(queues, list) else []
    return {str(queue["name"]) for queue in found if isinstance(queue, dict) and queue.get("name")}


def _task_of(worker: Mapping[str, Any]) -> str | None:
    task = worker.get("task")
    return str(task["id"]) if isinstance(task, dict) and task.get("id") else None
