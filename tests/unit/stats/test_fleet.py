"""Why runs wait, and who serves the queues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.schemas import histories as h
from trainyard_schemas.lifecycle import RunState, fold
from trainyard_schemas.vocabulary import RunPhase
from trainyard_stats.fleet import Fleet, QueueLook, Waiting, Why, fleet_of, queue_look, waiting
from trainyard_stats.metrics import StatsMetrics, Surroundings
from trainyard_stats.run_metrics import Tally


def worker(*queues: str, task: str | None = None) -> dict[str, object]:
    return {
        "id": "w",
        "task": None if task is None else {"id": task, "name": "t"},
        "queues": [{"id": q, "name": q, "num_tasks": 0} for q in queues],
    }


def state(phase: RunPhase, queue: str | None = None, at: float = 10.0) -> RunState:
    found = fold([(0, h.event(h.accepted()))])
    assert found is not None
    return replace(found, phase=phase, queue=queue, accepted_at=at, dispatched_at=at + 1, queued_at=None)


def test_workers_are_counted_once_and_per_queue_that_they_serve() -> None:
    fleet = fleet_of(
        {"cpu": QueueLook(3, 5.0), "gpu": QueueLook(0, None)},
        [worker("cpu", "services"), worker("cpu", task="t"), worker(), {"id": "odd", "queues": None}],
    )
    assert (fleet.online, fleet.busy) == (4, 1)
    assert fleet.workers == {"cpu": (2, 1), "gpu": (0, 0), "services": (1, 0)}


def test_a_queues_oldest_entry_is_the_earliest_and_an_odd_time_is_none() -> None:
    look = queue_look(["2026-11-25T00:00:10+00:00", "2026-11-25T00:00:05.500000", "soon"])
    assert look.entries == 3
    assert look.oldest_at == pytest.approx(1795564805.5)
    assert queue_look([]) == QueueLook(0, None)


@pytest.mark.parametrize(
    ("phase", "queue", "fleet", "where", "why"),
    [
        (RunPhase.ACCEPTED, None, Fleet(), "", Why.BACKLOG),
        (RunPhase.ATTEMPT_LOST, "cpu", Fleet(), "", Why.RETRY),
        (RunPhase.DISPATCHED, "cpu", None, "cpu", Why.QUEUED),
        (RunPhase.DISPATCHED, "cpu", Fleet(), "cpu", Why.NO_WORKER),
        (RunPhase.DISPATCHED, "cpu", Fleet(workers={"cpu": (2, 2)}), "cpu", Why.WORKERS_BUSY),
        (RunPhase.DISPATCHED, "cpu", Fleet(workers={"cpu": (2, 1)}), "cpu", Why.STARTING),
    ],
)
def test_a_run_waits_for_a_reason(phase: RunPhase, queue: str, fleet: Fleet | None, where: str, why: Why) -> None:
    (found,) = waiting([state(phase, queue)], fleet)
    assert found == (where, why)


def test_the_oldest_wait_is_the_longest_and_running_runs_do_not_wait() -> None:
    states = [
        state(RunPhase.ACCEPTED, at=30.0),
        state(RunPhase.ACCEPTED, at=20.0),
        state(RunPhase.STARTED, "cpu"),
        state(RunPhase.ATTEMPT_SUCCEEDED, "cpu"),
    ]
    assert waiting(states, None) == {("", Why.BACKLOG): Waiting(2, 20.0)}


def shown(look: Callable[[], Surroundings]) -> dict[tuple[str, ...], float]:
    text = StatsMetrics(Tally, look).render().decode()
    return {
        (s.name, *(value for _, value in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_what_was_found_is_shown_and_a_clearml_that_is_away_shows_no_workers() -> None:
    fleet = fleet_of({"cpu": QueueLook(3, 90.0)}, [worker("cpu", task="t"), worker("cpu")])
    found = Surroundings(
        100.0,
        fleet,
        {("cpu", Why.STARTING): Waiting(2, 95.0)},
        {("trainyard.intake", "trainyard.runs.requested"): 7},
        {"trainyard.runs.requested.dead-letter": 4},
    )
    samples = shown(lambda: found)
    assert samples["trainyard_workers", "busy"] == samples["trainyard_queue_workers", "cpu", "idle"] == 1
    assert samples["trainyard_clearml_queue_entries", "cpu"] == 3
    assert samples["trainyard_clearml_queue_oldest_entry_seconds", "cpu"] == 10
    assert samples["trainyard_queue_waiting_runs", "cpu", "starting"] == 2
    assert samples["trainyard_queue_oldest_wait_seconds", "cpu", "starting"] == 5
    assert samples["trainyard_consumer_lag_records", "trainyard.intake", "trainyard.runs.requested"] == 7
    assert samples["trainyard_dead_letters_total", "trainyard.runs.requested.dead-letter"] == 4
    away = shown(lambda: replace(found, fleet=None))
    assert away["trainyard_clearml_up",] == 0
    assert not any(key[0] in ("trainyard_workers", "trainyard_queue_workers") for key in away)
