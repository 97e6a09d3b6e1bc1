"""The page's table is a fold: repeated records change nothing, and it stays bounded."""

from __future__ import annotations

import json
import random
import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.submitter import story
from trainyard_runtime.kafka.records import Record
from trainyard_schemas import events as ev
from trainyard_schemas.ids import Origin
from trainyard_schemas.vocabulary import Reason
from trainyard_submitter.explaining import QueueFacts
from trainyard_submitter.gateway.run_table import RunTable

ORIGIN = Origin("trainyard.runs.requested", 0, 0, 1_000_000)
HOSTILE = "<script>alert(1)</script>"


def run_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))


def lives(count: int, *, ended: int | None = None) -> list[Record]:
    """So many runs, one after the other; the first `ended` ones (all if not given) come to their end."""
    log = story.Log()
    for number in range(count):
        life = story.whole_life(run_id(number), ORIGIN)
        log.append(life if ended is None or number < ended else life[:4], 1_000.0 + 10 * number)
    return log.records


def folded(records: list[Record], max_ended: int = 100) -> RunTable:
    table = RunTable(max_ended)
    for record in records:
        table.feed(record)
    return table


def everything(table: RunTable) -> str:
    rows = list(table.rows())
    return json.dumps([[row, table.document(row["run_id"], 5_000.0)] for row in rows], sort_keys=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**32), st.integers(1, 4))
def test_any_repetition_of_records_leaves_the_same_table(count: int, seed: int, max_ended: int) -> None:
    """A repeated record stands after the first one, as a producer's repetition does; also where runs were dropped."""
    once = lives(count, ended=max(0, count - 1))
    chance = random.Random(seed)
    repeated: list[Record] = []
    for record in once:
        repeated.append(record)
        repeated += chance.choices(repeated, k=chance.randrange(4))
    repeated += chance.choices(once, k=4)  # fewer than a life: a run that was dropped must not come back as a new one
    assert everything(folded(repeated, max_ended)) == everything(folded(once, max_ended))


def test_a_repetition_that_counted_would_be_seen() -> None:
    assert everything(folded(lives(3))) != everything(folded(lives(2)))


def test_a_completed_run_keeps_its_figures_its_phases_and_its_events() -> None:
    table = folded(lives(1))
    (row,) = table.rows()
    assert (row["state"], row["value"], row["baseline"]) == ("completed", 0.9722, 0.3889)
    found = table.document(run_id(0), 9_999.0)
    assert found is not None
    assert [(p["phase"], p["seconds"]) for p in found["timeline"]] == [
        ("waits for its turn", 1.0),
        ("in the queue", 2.0),
        ("training", 1.0),
        ("closing", 1.0),
    ]
    assert [event["type"].split(".", 1)[1] for event in found["events"]] == [
        "run.accepted",
        "attempt.dispatched",
        "attempt.queued",
        "attempt.started",
        "attempt.succeeded",
        "run.completed",
    ]
    assert found["results"]["value"] == 0.9722
    assert found["request"]["trainer"] == "sklearn"
    assert "completed with accuracy 0.9722" in found["why"]


def test_of_the_ended_runs_the_newest_are_kept_and_all_that_have_not_ended() -> None:
    records = lives(8, ended=6)
    table = folded(records, max_ended=2)
    assert [row["run_id"] for row in table.rows()] == [run_id(number) for number in (7, 6, 5, 4)]
    assert table.document(run_id(0), 0.0) is None
    assert everything(folded(list(reversed_by_run(records)), max_ended=2)) == everything(table)


def reversed_by_run(records: list[Record]) -> list[Record]:
    """The same runs, the last one first: partitions may be read in any order."""
    keys = list(dict.fromkeys(record.key for record in records))
    return [record for key in reversed(keys) for record in records if record.key == key]


def test_progress_is_that_of_the_worker_that_holds_the_run_and_goes_with_the_attempt() -> None:
    log, life = story.Log(), story.whole_life(run_id(0), ORIGIN)
    table = folded(log.append(life[:4]))
    heard = story.Log("trainyard.runs.heartbeats")
    (beat, foreign) = heard.append([story.heartbeat(run_id(0)), story.heartbeat(run_id(0), "d" * 32)])
    assert table.hear(foreign) is None
    assert table.hear(beat) == run_id(0)
    assert table.hear(beat) is None, "the same sign of life again"
    (row,) = table.rows()
    assert (row["progress"]["phase"], row["progress"]["step"], row["progress"]["total"]) == ("fit", 1, 3)
    for record in log.append(life[4:]):
        table.feed(record)
    assert table.hear(beat) is None
    (row,) = table.rows()
    assert row["progress"] is None


def test_why_a_run_waits_uses_what_clearml_says_of_its_queue() -> None:
    table = folded(story.Log().append(story.whole_life(run_id(0), ORIGIN)[:3]))
    found = table.document(run_id(0), 2_000.0, QueueFacts((), 0))
    assert found is not None
    assert "no worker serves that queue" in found["why"]
    assert found["timeline"][-1]["to"] is None


def test_records_that_are_none_of_ours_are_counted_and_passed_over() -> None:
    table = RunTable(10)
    assert table.feed(Record("t", 0, 0, 0, b"k", b"\xff not json", ())) is None
    assert (len(table), table.unreadable) == (0, 1)


def test_a_refused_request_is_shown_with_its_reason_and_a_name_as_it_was_sent() -> None:
    refused = story.rejected(run_id(0), ORIGIN).model_copy(update={"run_name": HOSTILE})
    (row,) = folded(story.Log().append([refused])).rows()
    assert (row["state"], row["reason"], row["run_name"]) == ("rejected", Reason.INVALID_REQUEST.value, HOSTILE)


def test_a_second_attempt_has_phases_of_its_own() -> None:
    run = run_id(0)
    lost = ev.AttemptLost(run_id=run, attempt=1, task_id=story.TASK, claim=story.CLAIM, message="silent")
    again = story.dispatched(run).model_copy(update={"attempt": 2, "task_id": "e" * 32})
    table = folded(story.Log().append([*story.whole_life(run, ORIGIN)[:4], lost, again]))
    found = table.document(run, 2_000.0)
    assert found is not None
    assert [(p["phase"], p["attempt"]) for p in found["timeline"]][-2:] == [
        ("between attempts", 1),
        ("in the queue", 2),
    ]
