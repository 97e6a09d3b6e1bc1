"""Natural keys: the same cause has the same id, another one another; and they never change."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.schemas import histories as h
from trainyard_schemas import ids
from trainyard_schemas.events import make_event
from trainyard_schemas.topics import RUN_PARTITIONS

ORIGIN = ids.Origin("trainyard.runs.requested", 3, 41, 1793865600000)


def test_ids_are_what_they_have_always_been() -> None:
    """A changed id would make two runs of one request: these values are frozen."""
    assert ids.run_id_from_key("default", "wine-2026-11-05") == "d0b9ac27-2aed-59e8-b1bc-130ca9c21e46"
    assert ids.run_id_from_event("default", "shop", "4711") == "2a2db66f-39e8-52a5-ad92-72ae87dc0c84"
    assert ids.run_id_from_origin("default", ORIGIN) == "bceceb7b-ac70-5041-a098-1bbcc8d64d5a"
    assert ids.partition_of("00000000-0000-0000-0000-000000000000", 12) == 8


def test_every_kind_of_cause_has_a_run_of_its_own() -> None:
    runs = {
        ids.run_id_from_key("default", "a"),
        ids.run_id_from_key("other tenant", "a"),
        ids.run_id_from_event("default", "a", "a"),
        ids.run_id_from_event("default", "a", "b"),
        ids.run_id_from_event("default", "b", "a"),
        ids.run_id_from_origin("default", ORIGIN),
        ids.run_id_from_origin("default", ids.Origin(ORIGIN.topic, 3, 42, ORIGIN.timestamp_ms)),
        ids.run_id_from_origin("default", ids.Origin(ORIGIN.topic, 3, 41, ORIGIN.timestamp_ms + 1)),
    }
    assert len(runs) == 8


@given(st.uuids())
def test_a_partition_is_within_its_topic_and_always_the_same(run: object) -> None:
    partition = ids.partition_of(str(run), RUN_PARTITIONS)
    assert 0 <= partition < RUN_PARTITIONS
    assert partition == ids.partition_of(str(run), RUN_PARTITIONS)


def test_partitions_are_used_evenly() -> None:
    used = Counter(ids.partition_of(ids.run_id_from_key("default", str(i)), RUN_PARTITIONS) for i in range(12_000))
    assert set(used) == set(range(RUN_PARTITIONS))
    assert max(used.values()) < 1.2 * min(used.values())


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="partitions must be at least 1, not 0"):
        ids.partition_of("x", 0)


def test_an_event_has_the_same_id_whoever_writes_it_and_whenever() -> None:
    first = make_event(h.queued(1), source="a", writer="1", now=1.0)
    second = make_event(h.queued(1), source="b", writer="2", now=2.0)
    assert first.id == second.id


def test_racing_writers_have_ids_of_their_own() -> None:
    facts = [
        h.dispatched(1, "a"), h.dispatched(1, "b"), h.dispatched(2, "a"), h.started(1, "a", "a"),
        h.started(1, "a", "b"), h.succeeded(1, "a"), h.succeeded(1, "b"), h.failed(1, "a"), h.failed(1, None),
        h.attempt_cancelled(1),
        h.attempt_cancelled(1, "a"), h.lost(1), h.accepted("d", 0), h.accepted("d", 1), h.reprioritised(1, "p1"),
        h.reprioritised(1, "p2"), h.cancel_requested("c1"), h.cancel_requested("c2"),
    ]  # fmt: skip
    assert len({h.event(fact).id for fact in facts}) == len(facts)
