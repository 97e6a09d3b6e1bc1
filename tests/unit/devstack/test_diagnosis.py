"""Every fault has a hint of its own, which says what to do."""

from __future__ import annotations

import json

import pytest

from trainyard_devstack import diagnosis
from trainyard_devstack.diagnosis import ClearMLFacts, StatisticsFacts, TaskFacts
from trainyard_devstack.findings import Level
from trainyard_devstack.probing import summed

HOST = "http://clearml.example:8008"
TASK = {"name": "wine", "status": "completed", "project": "p1", "system_tags": []}


@pytest.mark.parametrize(
    ("facts", "level", "says"),
    [
        (ClearMLFacts(HOST), Level.OK, "takes the keys"),
        (ClearMLFacts(HOST, refused=(401, "Unauthorized")), Level.CHANGE, "authentication failed"),
        (ClearMLFacts(HOST, silent="refused"), Level.FAILS, f"curl {HOST}/debug.ping"),
        (ClearMLFacts("http://c:8080", silent="HTML"), Level.FAILS, "Port 8080 is the page's, the API's is 8008"),
        (ClearMLFacts(HOST, refused=(500, "out of\ndisk")), Level.FAILS, "answers 500"),
    ],
)
def test_why_clearml_is_not_heard(facts: ClearMLFacts, level: Level, says: str) -> None:
    finding = diagnosis.clearml(facts)
    assert (finding.check, finding.level) == ("clearml", level)
    assert says in finding.message
    assert "\n" not in finding.message


@pytest.mark.parametrize(
    ("task", "project", "level", "says"),
    [
        (TASK, "Examples", Level.OK, "is 'wine' in project 'Examples', completed"),
        ({**TASK, "system_tags": ["archived"]}, "Examples", Level.NOTE, "in the archive of project 'Examples' only"),
        ({**TASK, "system_tags": ["hidden"]}, "Examples", Level.NOTE, "with hidden ones shown"),
        (None, None, Level.CHANGE, "keys of another workspace"),
        (TASK, None, Level.OK, "no project"),
    ],
)
def test_why_a_task_is_not_seen(task: dict[str, object] | None, project: str | None, level: Level, says: str) -> None:
    finding = diagnosis.task(TaskFacts("run-1", "task-1", task, project))
    assert (finding.check, finding.level) == ("task", level)
    assert says in finding.message


@pytest.mark.parametrize(
    ("facts", "level", "says"),
    [
        (StatisticsFacts(0, 0, 0, None), Level.OK, "CLEARML_DEFAULT_KAFKA_SERVE_URL"),
        (StatisticsFacts(1200, 0, 0, 0.0), Level.OK, "1,200 messages of clearml-serving counted, the last sent 1970"),
        (StatisticsFacts(1200, 3, 4, 0.0), Level.NOTE, "7 records behind"),
    ],
)
def test_what_statistics_get(facts: StatisticsFacts, level: Level, says: str) -> None:
    finding = diagnosis.statistics(facts)
    assert finding.level is level
    assert says in finding.message


def test_the_last_error_of_a_log_is_one_sentence() -> None:
    def line(level: str, **more: str) -> str:
        return json.dumps({"level": level, "timestamp": "2026-01-02T03:04:05.678Z", **more})

    trace = "Traceback (most recent call last):\n  File\nKeyError: 'model'"
    lines = ["no JSON", "[]", line("error", event="first"), line("info", event="fine"), "{}"]
    assert diagnosis.last_error(lines) == "2026-01-02T03:04:05 first"
    broke = line("error", event="the service failed", exception=trace)
    assert diagnosis.last_error([*lines, broke]) == "2026-01-02T03:04:05 the service failed: KeyError: 'model'"
    assert diagnosis.last_error([line("info", event="fine")]) is None


def test_samples_are_added_up_by_name() -> None:
    text = '# HELP trainyard_a x\ntrainyard_a{p="0"} 1.0\ntrainyard_a{p="1"} 2\ntrainyard_b 1e3\nother 5\n'
    assert summed(text) == {"trainyard_a": 3.0, "trainyard_b": 1000.0}
