"""What a finished world leaves behind: a dump of the topics, of ClearML, and of the harness's own ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainyard_dispatcher.ports import TaskStatus
from trainyard_runtime.kafka.records import Record
from trainyard_schemas.events import Event
from trainyard_simulation.clearml import Entry
from trainyard_simulation.producers import Acknowledged
from trainyard_simulation.training import Execution


@dataclass(frozen=True, slots=True)
class TaskLeft:
    """A ClearML task at the end. A user's clone, or somebody else's task, is not ours to clean up."""

    run_id: str
    attempt: int
    status: TaskStatus
    is_ours: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the checker looks at, and nothing else.

    `lifecycle` holds each partition's events in offset order, `completed` what was copied to `runs.completed` (None: no
    copier ran), `committed` the next offset of the group `intake` per partition, `early_commits` the (partition,
    offset) that a commit passed before they were answered, `entries` every entry ever made in a queue, `queued_now` the
    tasks that still stand in one, `deleted` those that are gone. `meddled_with` are the runs that a user touched in
    ClearML or ordered to end, `shown_models` the claims whose model can be seen, by run. `came_to_rest`: the world
    found its end.
    """

    came_to_rest: bool
    acknowledged: tuple[Acknowledged, ...]
    requested: Mapping[int, tuple[Record, ...]]
    lifecycle: Mapping[int, tuple[Event, ...]]
    dead_letters: tuple[Record, ...]
    completed: tuple[Event, ...] | None
    committed: Mapping[int, int]
    early_commits: tuple[tuple[int, int], ...]
    executions: tuple[Execution, ...]
    entries: tuple[Entry, ...]
    tasks: Mapping[str, TaskLeft]
    queued_now: tuple[str, ...]
    deleted: frozenset[str]
    meddled_with: frozenset[str]
    shown_models: Mapping[str, frozenset[str]]
