"""The panels of queues, workers and health show what the log, ClearML and the topics say, asked by others than ours."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from infra.grafana.panels import HEALTH, QUEUES, RANGE, RATE
from pydantic import SecretStr

from tests.architecture.sources import ROOT
from tests.e2e.conftest import Stack
from tests.e2e.prometheus_process import JOBS, Prometheus
from trainyard_runtime.clearml import ClearMLClient, ClearMLSettings
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncReader
from trainyard_schemas.topics import TOPICS, TopicName

pytestmark = pytest.mark.slow

WAITING = 2
ACTIONS = {"Create", "Dispatch", "Enqueue", "Append"}
POLL_S = 15.0
"""How old what Prometheus knows of queues and workers may be: they are looked at so often."""

DEADLINE_S = 60.0
Answer = dict[frozenset[tuple[str, str]], float]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Two moments. Before `first` all was quiet; between them a bad request came, and runs for a queue that nobody
    serves, which wait since `waiting_since`."""

    stack: Stack
    prometheus: Prometheus
    first: float
    last: float
    waiting_since: float
    entries: dict[str, int]
    served: dict[str, int]

    def ask(self, expression: str) -> Answer:
        """A panel's query over the time between the moments."""
        length = f"{round((self.last - self.first) * 1000)}ms"
        return self.prometheus.query(expression.replace(RANGE, length).replace(RATE, length), self.last)


def until(condition: Callable[[], bool], explain: Callable[[], Any]) -> float:
    """When the condition came true."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at, explain()
        time.sleep(0.3)
    return time.time()


def letters(stack: Stack) -> int:
    """How many records the dead-letter topic of requests has been given."""
    (topic,) = [topic for topic in TOPICS if topic.name is TopicName.RUNS_REQUESTED_DEAD_LETTER]
    reader = SyncReader(Address(stack.bootstrap))
    try:
        return sum(reader.ends([(f"trainyard.{topic.name.value}", p) for p in range(topic.partitions)]).values())
    finally:
        reader.close()


def seen_by_clearml(stack: Stack) -> tuple[dict[str, int], dict[str, int]]:
    """ClearML's own answer: the entries of each queue, and how many workers serve it."""
    told = stack.status()["clearml"]
    settings = ClearMLSettings(
        api_host=told["api"],
        files_host=told["files"],
        access_key=told["access_key"],
        secret_key=SecretStr(told["secret_key"]),
    )

    async def ask() -> tuple[dict[str, int], dict[str, int]]:
        async with ClearMLClient(settings) as client:
            queues, workers = await client.queues(), await client.workers()
        served = Counter(queue["name"] for worker in workers for queue in worker["queues"])
        return {queue.name: len(queue.entries) for queue in queues}, dict(served)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def fleet(stack: Stack, prometheus: Prometheus) -> Iterator[Fleet]:
    request = json.loads((ROOT / "examples" / "requests" / "wine-sklearn.json").read_text())
    assert (
        stack.trainyard("submit", str(ROOT / "examples" / "requests" / "wine-sklearn.json"), "--wait").returncode == 0
    )
    acted = "count by (action) (trainyard_planner_action_seconds_count)"  # a rate needs what stood there before
    until(lambda: {dict(labels)["action"] for labels in prometheus.query(acted)} >= ACTIONS, lambda: "actions")
    dead = 'sum(trainyard_dead_letters_total{topic=~".*requested.*"})'
    before = letters(stack)
    first = until(
        lambda: prometheus.query(f"{dead} or vector(0)") == {frozenset(): float(before)},
        lambda: f"{prometheus.query(dead)} dead letters, not {before}",
    )
    scraped = "min(timestamp(trainyard_planner_action_seconds_count))"  # a rate needs what stood within the range too
    until(lambda: min(prometheus.query(scraped).values()) > first, lambda: f"{prometheus.query(scraped)} > {first}")
    names = [f"fleet-waits-{number}" for number in range(WAITING)]
    for name in names:
        stack.publish(json.dumps({**request, "run_name": name, "queue": "gpu"}).encode())
    stack.publish(b"fleet: not even JSON")
    waiting = 'sum(trainyard_queue_waiting_runs{queue="gpu",why="no_worker"})'
    behind = (
        "max(trainyard_consumer_lag_records) + max(trainyard_dispatcher_lag_records)"
        " + max(trainyard_stats_lag_records) + sum(trainyard_serving_lag_messages)"
    )
    until(lambda: letters(stack) == before + 1, lambda: "the bad request has no dead letter")
    last = until(
        lambda: (
            prometheus.query(waiting) == {frozenset(): float(WAITING)}
            and prometheus.query(dead) == {frozenset(): float(before + 1)}
            and prometheus.query(behind) == {frozenset(): 0.0}
        ),
        lambda: [prometheus.query(query) for query in (waiting, dead, behind)],
    )
    lives: dict[str, dict[str, Any]] = {}
    for record in stack.records("runs.lifecycle"):
        lives.setdefault(record["data"]["run_id"], {})[record["type"]] = record
    ours = {
        run_id: life
        for run_id, life in lives.items()
        if life.get("trainyard.run.accepted", {"data": {"request": {}}})["data"]["request"].get("run_name") in names
    }
    since = min(datetime.fromisoformat(life["trainyard.attempt.queued"]["time"]).timestamp() for life in ours.values())
    yield Fleet(stack, prometheus, first, last, since, *seen_by_clearml(stack))
    for run_id in ours:
        assert stack.trainyard("runs", "cancel", run_id).returncode == 0


def without_zeros(answer: Answer) -> Answer:
    return {labels: value for labels, value in answer.items() if value}


def labelled(counts: dict[str, int], label: str, **more: str) -> Answer:
    return {frozenset({(label, name), *more.items()}): float(count) for name, count in counts.items() if count}


def waiting_runs(fleet: Fleet, answers: list[Answer]) -> None:
    assert without_zeros(answers[0]) == {frozenset({("queue", "gpu"), ("why", "no_worker")}): float(WAITING)}


def longest_wait(fleet: Fleet, answers: list[Answer]) -> None:
    (value,) = without_zeros(answers[0]).values()
    true = fleet.last - fleet.waiting_since
    assert -1.0 < true - value < POLL_S + 5.0


def workers_per_queue(fleet: Fleet, answers: list[Answer]) -> None:
    assert len(fleet.served) == 3
    assert without_zeros(answers[0]) == labelled(fleet.served, "queue", state="idle")


def workers(fleet: Fleet, answers: list[Answer]) -> None:
    assert without_zeros(answers[0]) == {frozenset({("state", "idle")}): 1.0}


def queue_entries(fleet: Fleet, answers: list[Answer]) -> None:
    assert fleet.entries["gpu"] == WAITING
    assert answers[0] == {frozenset({("queue", name)}): float(count) for name, count in fleet.entries.items()}


def trainer_workers(fleet: Fleet, answers: list[Answer]) -> None:
    assert answers == [{frozenset(): 1.0}, {frozenset(): 0.0}, {frozenset(): 1.0}]


def answering(fleet: Fleet, answers: list[Answer]) -> None:
    assert {dict(labels)["job"] for labels in answers[0]} >= set(JOBS)
    assert set(answers[0].values()) == {1.0}


def planners(fleet: Fleet, answers: list[Answer]) -> None:
    assert answers == [{frozenset(): 1.0}]


def clearml_and_kafka(fleet: Fleet, answers: list[Answer]) -> None:
    assert answers == [{frozenset(): 1.0}, {frozenset(): 1.0}]


def lags(fleet: Fleet, answers: list[Answer]) -> None:
    dispatcher, groups, stats, serving = answers
    assert {dict(labels)["consumer"] for labels in dispatcher} == {"fold", "intake", "commands", "completed_copier"}
    assert {dict(labels)["group"] for labels in groups} >= {"trainyard.intake"}
    assert list(stats) == [frozenset()]
    assert list(serving) == [frozenset({("deployment", "default")})]
    assert all(value == 0 for answer in answers for value in answer.values())


def dead_letters(fleet: Fleet, answers: list[Answer]) -> None:
    assert without_zeros(answers[0]) == {frozenset({("topic", "trainyard.runs.requested.dead-letter")}): 1.0}


def outbox(fleet: Fleet, answers: list[Answer]) -> None:
    assert list(answers[0].values()) == [0.0]


def action_seconds(fleet: Fleet, answers: list[Answer]) -> None:
    """How long an action took is in no event, but what was done is: every step from a request to a queue. That the
    seconds are right is seen in `tests/deployment`."""
    took_s = {dict(labels)["action"]: seconds for labels, seconds in answers[0].items()}
    assert took_s.keys() >= ACTIONS
    assert all(took_s[action] > 0 for action in ACTIONS), took_s


ORACLES: dict[str, Callable[[Fleet, list[Answer]], None]] = {
    "Runs that wait, and why": waiting_runs,
    "Longest wait": longest_wait,
    "Workers per queue": workers_per_queue,
    "Workers": workers,
    "Entries of ClearML's queues": queue_entries,
    "Trainer workers": trainer_workers,
    "Answers": answering,
    "Active planners": planners,
    "ClearML and Kafka answer": clearml_and_kafka,
    "Records behind the log's end": lags,
    "Dead letters in the range": dead_letters,
    "Outcomes not acknowledged": outbox,
    "Planner: actions, p95": action_seconds,
}


@pytest.mark.parametrize("panel", [*QUEUES.panels, *HEALTH.panels], ids=lambda panel: panel.title)
def test_a_panel_of_the_fleet_shows_what_others_say(panel: Any, fleet: Fleet) -> None:
    ORACLES[panel.title](fleet, [fleet.ask(query.expr) for query in panel.queries])
