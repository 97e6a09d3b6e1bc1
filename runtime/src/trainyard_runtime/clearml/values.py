"""What calls answer, as small values, and the shapes ClearML wants its nested fields in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

RUN_ID_FILTER: Final = "hyperparams.Run.run_id.value"
"""The filter that finds the tasks of a run; it takes one value or a list."""

PAGE_SIZE: Final = 500
"""The most that clearml-server 2.3.0 gives in one page."""


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A task waiting in a queue; `added` is ClearML's ISO 8601 time."""

    task_id: str
    added: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and what waits in it, first to be popped first."""

    id: str
    name: str
    entries: tuple[QueueEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusChange:
    """What a status call did: how many tasks it updated and the fields it set (empty when nothing changed)."""

    updated: int
    fields: Mapping[str, Any]

    @property
    def previous_status(self) -> str | None:
        """For an enqueue: the status the task had before."""
        value = self.fields.get("enqueue_status")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class AddedEvents:
    """How many events of a batch were stored, how many were not, and ClearML's word on those."""

    added: int
    errors: int
    errors_info: Any


def status_change(data: Mapping[str, Any]) -> StatusChange:
    """Read the answer of tasks.started, stopped, completed, failed, enqueue, dequeue and reset."""
    fields = data.get("fields")
    return StatusChange(int(data.get("updated") or 0), fields if isinstance(fields, dict) else {})


def queue_from_wire(item: Mapping[str, Any]) -> Queue:
    """A queue from queues.get_all."""
    entries = tuple(
        QueueEntry(task_id=str(entry["task"]), added=str(entry.get("added") or ""))
        for entry in item.get("entries") or ()
        if entry.get("task")
    )
    return Queue(id=str(item["id"]), name=str(item.get("name") or ""), entries=entries)


def hyperparams(sections: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, dict[str, str]]]:
    """`{section: {name: value}}` in the shape tasks.create takes. Values must be strings (else 400/800)."""
    return {
        section: {name: {"section": section, "name": name, "value": value} for name, value in values.items()}
        for section, values in sections.items()
    }


def hyperparam_value(task: Mapping[str, Any], section: str, name: str) -> str | None:
    """The value of one hyperparameter of a task as answered, or None."""
    found = ((task.get("hyperparams") or {}).get(section) or {}).get(name)
    value = found.get("value") if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def exactly(name: str) -> str:
    """The regular expression that matches this name only: ClearML's name filters are regular expressions."""
    return f"^{re.escape(name)}$"
