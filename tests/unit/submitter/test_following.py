from __future__ import annotations

from tests.unit.submitter.story import (
    CLAIM,
    REQUEST,
    RESULTS,
    Log,
    accepted,
    completed,
    dispatched,
    heartbeat,
    rejected,
    started,
    whole_life,
)
from trainyard_runtime.kafka.records import Record
from trainyard_schemas.ids import Origin, run_id_from_key, run_id_from_origin
from trainyard_schemas.lifecycle import Verdict
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter.following import Answer, Followed, Watch, fold_runs

RUN = run_id_from_key("default", "k")
OTHER = run_id_from_key("default", "other")
OURS = Origin("trainyard.runs.requested", 1, 5, 1_000)
THEIRS = Origin("trainyard.runs.requested", 1, 4, 900)
REFUSED = run_id_from_origin("default", OURS)


def submitted() -> Watch:
    return Watch(RUN, origin=OURS, rejected_run_id=REFUSED)


def feed(watch: Watch, records: list[Record]) -> list[Followed]:
    return [followed for record in records if (followed := watch.feed(record)) is not None]


def test_a_run_is_followed_from_accepted_to_completed() -> None:
    watch = submitted()
    followed = feed(watch, Log().append(whole_life(RUN, OURS)))
    assert [f.event.type.short for f in followed] == [
        "run.accepted",
        "attempt.dispatched",
        "attempt.queued",
        "attempt.started",
        "attempt.succeeded",
        "run.completed",
    ]
    assert watch.answer is Answer.ACCEPTED
    assert watch.is_over
    assert watch.state is not None
    assert watch.state.phase is RunPhase.COMPLETED
    assert watch.state.results == RESULTS


def test_records_of_other_runs_are_passed_over() -> None:
    watch = submitted()
    assert feed(watch, Log().append(whole_life(OTHER, THEIRS))) == []
    assert watch.state is None


def test_the_same_request_again_is_over_only_when_its_own_answer_came() -> None:
    watch, log = submitted(), Log()
    feed(watch, log.append(whole_life(RUN, THEIRS)))
    assert watch.state is not None
    assert watch.state.is_ended
    assert not watch.is_over
    (again,) = feed(watch, log.append([accepted(RUN, OURS)]))
    assert again.verdict is Verdict.DUPLICATE
    assert watch.is_over
    assert watch.answer is Answer.ACCEPTED


def test_another_request_under_the_same_key_is_a_conflict_as_soon_as_its_accepted_loses() -> None:
    watch, log = submitted(), Log()
    feed(watch, log.append([accepted(RUN, THEIRS)]))
    feed(watch, log.append([accepted(RUN, OURS, REQUEST | {"metric": "f1_macro"})]))
    assert watch.answer is Answer.CONFLICT
    assert watch.is_over
    assert watch.state is not None
    assert watch.state.request["metric"] == "accuracy"


def test_the_planners_refusal_of_a_conflict_is_an_answer_too() -> None:
    watch = submitted()
    feed(watch, Log().append([rejected(REFUSED, OURS, conflicts_with=RUN)]))
    assert watch.answer is Answer.CONFLICT
    assert watch.is_over


def test_a_refused_request_is_found_under_its_origin() -> None:
    watch = submitted()
    (followed,) = feed(watch, Log().append([rejected(REFUSED, OURS)]))
    assert watch.answer is Answer.REJECTED
    assert watch.is_over
    assert followed.state is not None
    assert followed.state.phase is RunPhase.REJECTED


def test_progress_counts_only_from_the_worker_that_holds_the_run() -> None:
    watch, beats = submitted(), Log("trainyard.runs.heartbeats")
    assert feed(watch, beats.append([heartbeat(RUN)])) == []
    feed(watch, Log().append([accepted(RUN, OURS), dispatched(RUN), started(RUN)]))
    assert feed(watch, beats.append([heartbeat(RUN, "d" * 32)])) == []
    (progress,) = feed(watch, beats.append([heartbeat(RUN, CLAIM)]))
    assert progress.verdict is None
    assert progress.counts
    assert not watch.is_over


def test_a_run_named_by_its_id_needs_no_answer() -> None:
    watch = Watch(RUN)
    feed(watch, Log().append(whole_life(RUN, THEIRS)))
    assert watch.is_over


def test_a_losing_record_is_shown_but_does_not_count() -> None:
    watch, log = submitted(), Log()
    feed(watch, log.append([accepted(RUN, OURS)]))
    (early,) = feed(watch, log.append([completed(RUN)]))
    assert early.verdict is Verdict.WRONG_ATTEMPT
    assert not early.counts
    assert not watch.is_over


def test_a_record_that_is_no_event_stops_nothing() -> None:
    watch = submitted()
    junk = Record("trainyard.runs.lifecycle", 0, 0, 0, RUN.encode(), b"\xff{", ())
    assert watch.feed(junk) is None
    feed(watch, Log().append(whole_life(RUN, OURS)))
    assert watch.is_over


def test_many_runs_fold_at_once_and_one_without_its_beginning_is_left_out() -> None:
    log = Log()
    log.append(whole_life(RUN, OURS))
    log.append([started(OTHER)])
    log.append([rejected(REFUSED, OURS)])
    runs = fold_runs(log.records)
    assert {run_id: state.phase for run_id, state in runs.items()} == {
        RUN: RunPhase.COMPLETED,
        REFUSED: RunPhase.REJECTED,
    }
