"""Why a run is where it is: sentences from folded states."""

from __future__ import annotations

from collections.abc import Sequence

from tests.unit.submitter.story import CLAIM, TASK, Log, accepted, dispatched, rejected, started, whole_life
from trainyard_schemas import events as ev
from trainyard_schemas.ids import Origin, run_id_from_key
from trainyard_schemas.vocabulary import Reason
from trainyard_submitter.explaining import _REMEDIES, QueueFacts, waits_for, why
from trainyard_submitter.following import Followed, Watch

RUN = run_id_from_key("default", "k")
ORIGIN = Origin("trainyard.runs.requested", 1, 5, 1_000)
QUEUED = ev.AttemptQueued(run_id=RUN, attempt=1, task_id=TASK, queue="cpu")


def history(facts: Sequence[ev.Fact]) -> list[Followed]:
    """Each a second after the one before; the first at 1,000 s."""
    watch = Watch(RUN)
    return [followed for record in Log().append(facts) if (followed := watch.feed(record)) is not None]


def failed(attempt: int, reason: Reason, message: str = "") -> list[ev.Fact]:
    return [
        ev.AttemptFailed(run_id=RUN, attempt=attempt, task_id=TASK, claim=CLAIM, reason=reason, message=message),
        ev.RunFailed(
            run_id=RUN,
            run_name="wine",
            project="AutoML",
            trainer="sklearn",
            attempt=attempt,
            accepted_at="2026-01-01T00:00:00Z",
            ended_at="2026-01-01T00:00:05Z",
            reason=reason,
            detail="label_missing",
            message=message,
        ),
    ]


def test_a_run_that_waits_in_a_queue_that_nobody_serves_says_how_to_serve_it() -> None:
    said = why(history([accepted(RUN, ORIGIN), dispatched(RUN), QUEUED]), 1_062.0, QueueFacts((), 3))
    assert "waited for 60 s in ClearML's queue cpu, with 3 before it, and no worker serves that queue" in said
    assert "`trainyard worker --queues cpu`" in said


def test_a_run_that_waits_behind_a_busy_worker_names_the_worker() -> None:
    said = why(history([accepted(RUN, ORIGIN), dispatched(RUN), QUEUED]), 1_062.0, QueueFacts(("lab:1",), 0))
    assert said.endswith("with 0 before it; lab:1 serves that queue, and will take it when free.")


def test_what_clearml_did_not_say_is_not_guessed() -> None:
    said = why(history([accepted(RUN, ORIGIN), dispatched(RUN)]), 1_062.0, None)
    assert "no worker" not in said
    assert "ClearML was not asked" in said


def test_a_run_in_training_names_its_worker_and_a_silence() -> None:
    told = history([accepted(RUN, ORIGIN), dispatched(RUN), started(RUN)])
    assert why(told, 1_032.0, silent_s=4.0) == "host:1 has been training it for 30 s (attempt 1)."
    assert "no sign of life for 50 s" in why(told, 1_032.0, silent_s=50.0)


def test_a_run_that_failed_says_for_what_and_what_to_do() -> None:
    said = why(
        history(
            [
                accepted(RUN, ORIGIN),
                dispatched(RUN),
                started(RUN),
                *failed(1, Reason.INVALID_DATASET, "there is no column y"),
            ]
        ),
        1_100.0,
    )
    assert said == (
        "It failed: invalid_dataset/label_missing: there is no column y. Correct the data (or its label) as the"
        " message says, and submit it again."
    )


def test_a_run_whose_worker_was_lost_says_that_another_attempt_comes_and_later_that_it_was_retried() -> None:
    lost = ev.AttemptLost(run_id=RUN, attempt=1, task_id=TASK, claim=CLAIM, message="no sign of life for 90 s")
    first = [accepted(RUN, ORIGIN), dispatched(RUN), started(RUN), lost]
    assert "The worker of attempt 1 was lost (no sign of life for 90 s); the next attempt" in why(
        history(first), 1_100.0
    )
    second = ev.AttemptDispatched(run_id=RUN, attempt=2, task_id="2" * 32, queue="cpu", queue_id="q" * 32)
    assert why(history([*first, second]), 1_100.0).endswith("It was retried once (1 lost with the worker).")


def test_a_cancelled_run_says_who_asked_and_why() -> None:
    asked = ev.RunCancelRequested(run_id=RUN, actor="ann@lab", message="wrong label", command_id="c1")
    told = [accepted(RUN, ORIGIN), dispatched(RUN), started(RUN), asked]
    assert why(history(told), 1_010.0).endswith("ann@lab asked to cancel it (wrong label); that is on its way.")


def test_a_completed_run_says_its_score() -> None:
    assert why(history(whole_life(RUN, ORIGIN)), 1_100.0) == (
        "It completed with accuracy 0.9722 (baseline 0.3889) in attempt 1."
    )


def test_a_rejected_run_is_explained_and_no_terminal_is_harmed() -> None:
    fact = rejected(RUN, ORIGIN).model_copy(update={"message": "\x1b[31mred"})
    said = why(history([fact]), 1_100.0)
    assert "\x1b" not in said
    assert "rejected: invalid_request/invalid_field" in said


def test_every_reason_has_a_remedy() -> None:
    assert set(_REMEDIES) == set(Reason)


def test_what_a_silent_run_waits_for_depends_on_where_it_is() -> None:
    assert "intake" in waits_for(None)
    said = [waits_for(f.state) for f in history([accepted(RUN, ORIGIN), dispatched(RUN), started(RUN)])]
    assert ["planner" in said[0], "queue cpu" in said[1], "host:1" in said[2]] == [True, True, True]
