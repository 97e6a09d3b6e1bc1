"""Every event has a topic, a schema, an example, a producer and a consumer; and every file belongs to an event."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.contracts.files import EXAMPLES, ROOT, SCHEMAS
from trainyard_schemas.documents import SERVICES
from trainyard_schemas.events import FACTS
from trainyard_schemas.lifecycle import _RULES
from trainyard_schemas.topics import FOREIGN_TOPICS, RUN_PARTITIONS, TOPICS, Topic, TopicName, topic
from trainyard_schemas.trainers import TRAINERS
from trainyard_schemas.vocabulary import TERMINAL_EVENTS, EventType

OUTSIDERS = {"anybody", "operators"}


def orphans(topics: Iterable[Topic], schemas: Path) -> list[str]:
    """Every event type that lacks something, and every file that belongs to none."""
    found = []
    for event_type in EventType:
        carriers = [t for t in topics if event_type in t.event_types]
        if not any(t.producers for t in carriers):
            found.append(f"{event_type.short}: no topic with a producer")
        if not any(t.consumers for t in carriers):
            found.append(f"{event_type.short}: no topic with a consumer")
        if not (schemas / "draft" / event_type.short / "1.json").is_file():
            found.append(f"{event_type.short}: no schema")
        if not list((schemas / "examples" / event_type.short).glob("*.json")):
            found.append(f"{event_type.short}: no example")
    shorts = {t.short for t in EventType} | {t.name.value for t in FOREIGN_TOPICS}
    for part in ("draft", "examples"):
        found += [
            f"{part}/{path.name}: belongs to no event"
            for path in sorted((schemas / part).iterdir())
            if path.name not in shorts
        ]
    return found


def test_no_event_is_an_orphan_and_no_file_is() -> None:
    assert orphans(TOPICS, SCHEMAS) == []


def test_an_event_without_a_topic_is_found() -> None:
    without = [t for t in TOPICS if t.name is not TopicName.RUNS_HEARTBEATS]
    assert orphans(without, SCHEMAS) == [
        "attempt.heartbeat: no topic with a producer",
        "attempt.heartbeat: no topic with a consumer",
    ]


def test_an_event_without_files_and_files_without_an_event_are_found(tmp_path: Path) -> None:
    for part in ("draft", "examples"):
        (tmp_path / part / "run.forgotten").mkdir(parents=True)
    found = orphans(TOPICS, tmp_path)
    assert "run.accepted: no schema" in found
    assert "run.accepted: no example" in found
    assert "examples/run.forgotten: belongs to no event" in found
    assert len(found) == 2 * len(EventType) + 2


def test_every_event_type_has_a_class_and_every_lifecycle_event_a_rule() -> None:
    assert set(FACTS) == set(EventType) - {EventType.RUN_REQUESTED, EventType.RUN_COMMAND}
    first = {EventType.RUN_ACCEPTED, EventType.RUN_REJECTED}
    assert set(_RULES) | first == set(topic(TopicName.RUNS_LIFECYCLE).event_types)


def test_producers_and_consumers_are_services_that_exist() -> None:
    assert {path.name for path in (ROOT / "services").iterdir() if path.is_dir()} == set(SERVICES)
    named = {name for t in (*TOPICS, *FOREIGN_TOPICS) for name in (*t.producers, *t.consumers)}
    assert named <= set(SERVICES) | OUTSIDERS


def test_every_topic_is_declared_once() -> None:
    assert sorted(t.name for t in (*TOPICS, *FOREIGN_TOPICS)) == sorted(TopicName)


def test_run_topics_share_one_partition_count_and_the_lead_is_elected_on_one_partition() -> None:
    assert {t.partitions for t in TOPICS if t.name is not TopicName.PLANNER_LEAD} == {RUN_PARTITIONS}
    assert topic(TopicName.PLANNER_LEAD).partitions == 1


@pytest.mark.parametrize(
    ("name", "days"),
    [(TopicName.RUNS_REQUESTED, 30), (TopicName.RUNS_LIFECYCLE, 90), (TopicName.RUNS_COMPLETED, 90)],
)
def test_the_book_of_record_is_kept_as_long_as_the_design_says(name: TopicName, days: int) -> None:
    assert topic(name).retention_ms >= days * 86_400_000
    assert topic(name).config["cleanup.policy"] == "delete"


def test_completed_carries_the_terminal_events_and_nothing_else() -> None:
    assert set(topic(TopicName.RUNS_COMPLETED).event_types) == TERMINAL_EVENTS


def test_every_trainer_has_a_metric_a_dataset_type_and_an_example() -> None:
    printed = " ".join(path.read_text() for path in EXAMPLES.rglob("*.json"))
    for trainer in TRAINERS.values():
        assert all(trainer.metrics.values())
        assert trainer.dataset_types
        assert f'"trainer": "{trainer.name}"' in printed
