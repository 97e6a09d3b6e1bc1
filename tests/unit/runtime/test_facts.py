"""Every reader of the log takes the same records for events."""

from __future__ import annotations

import pytest

from tests.unit.schemas import histories as h
from trainyard_runtime.kafka.facts import event_in
from trainyard_runtime.kafka.records import Record
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import encode_event
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_submitter.following import Watch, fold_runs

PARTITION = partition_of(h.RUN, RUN_PARTITIONS)


def record(key: bytes | None = h.RUN.encode(), partition: int = PARTITION) -> Record:
    value, headers = encode_event(h.event(h.accepted()))
    return Record("t.runs.lifecycle", partition, 0, 0, key, value, tuple(headers))


def test_an_event_in_its_runs_place_is_one_for_who_follows_one_run_and_for_who_follows_all() -> None:
    placed = record()
    assert event_in(placed).fact.run_id == h.RUN
    assert Watch(h.RUN).feed(placed) is not None
    assert fold_runs([placed]).keys() == {h.RUN}


@pytest.mark.parametrize("key", [None, b"", b"another run", h.RUN.upper().encode()])
def test_an_event_under_another_key_is_none_for_anybody(key: bytes | None) -> None:
    with pytest.raises(ContractError, match="key: is not the run_id"):
        event_in(record(key))
    assert Watch(h.RUN).feed(record(key)) is None
    assert fold_runs([record(key)]) == {}


@pytest.mark.parametrize("partition", sorted({*range(RUN_PARTITIONS)} - {PARTITION}))
def test_an_event_in_another_partition_is_none_for_anybody(partition: int) -> None:
    with pytest.raises(ContractError, match=f"partition: is {partition}, not its run's, {PARTITION}"):
        event_in(record(partition=partition))
    assert fold_runs([record(partition=partition)]) == {}
