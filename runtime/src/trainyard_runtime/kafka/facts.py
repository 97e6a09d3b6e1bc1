"""The event in a record of the run topics, as every reader of ours takes it. Pure."""

from __future__ import annotations

from trainyard_runtime.kafka.records import Record
from trainyard_schemas.errors import FieldError, Invalid
from trainyard_schemas.events import Event, decode_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS


def event_in(record: Record) -> Event:
    """The event in a record of `runs.lifecycle` or `runs.heartbeats`.

    One whose key is not its run's id, or that lies in another partition than its run's, is none: who follows one run
    looks nowhere else, and all must fold the same. Raises ContractError.
    """
    event = decode_event(record.value, record.headers)
    run_id = event.fact.run_id
    if record.key != run_id.encode():
        raise Invalid("misplaced", FieldError("key", "is not the run_id of the event"))
    if record.partition != (of_the_run := partition_of(run_id, RUN_PARTITIONS)):
        raise Invalid("misplaced", FieldError("partition", f"is {record.partition}, not its run's, {of_the_run}"))
    return event
