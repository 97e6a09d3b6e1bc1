"""Histories of one run as two writers could leave them in the log, for the tests of the fold."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from trainyard_schemas import events as ev
from trainyard_schemas import ids
from trainyard_schemas.events import Event, Fact, OriginRecord, make_event
from trainyard_schemas.vocabulary import EventType, Reason

RUN = ids.run_id_from_key("default", "a run")
SOURCE = "trainyard/test"
ORIGIN = OriginRecord(topic="trainyard.runs.requested", partition=0, offset=0, timestamp_ms=0)
End = ev.RunCompleted | ev.RunFailed | ev.RunCancelled


def task_of(attempt: int, writer: str = "a") -> str:
    return f"task-{attempt}-{writer}"


def claim_of(attempt: int, writer: str = "a") -> str:
    return f"claim-{attempt}-{writer}"


def accepted(digest: str = "d1", offset: int = 0) -> ev.RunAccepted:
    return ev.RunAccepted(
        run_id=RUN,
        tenant="default",
        request={"trainer": "sklearn", "priority": 5},
        request_digest=digest,
        original_schema_version=2,
        origin=ORIGIN.model_copy(update={"offset": offset}),
    )


def rejected() -> ev.RunRejected:
    return ev.RunRejected(run_id=RUN, reason=Reason.INVALID_REQUEST, detail="empty", message="empty", origin=ORIGIN)


def dispatched(attempt: int, writer: str = "a") -> ev.AttemptDispatched:
    return ev.AttemptDispatched(
        run_id=RUN, attempt=attempt, task_id=task_of(attempt, writer), queue="cpu", queue_id="q1"
    )


def queued(attempt: int, writer: str = "a") -> ev.AttemptQueued:
    return ev.AttemptQueued(run_id=RUN, attempt=attempt, task_id=task_of(attempt, writer), queue="cpu")


def started(attempt: int, task_writer: str = "a", claimer: str = "a") -> ev.AttemptStarted:
    return ev.AttemptStarted(
        run_id=RUN,
        attempt=attempt,
        task_id=task_of(attempt, task_writer),
        claim=claim_of(attempt, claimer),
        worker=f"worker-{claimer}",
    )


def succeeded(attempt: int, claimer: str = "a") -> ev.AttemptSucceeded:
    return ev.AttemptSucceeded(
        run_id=RUN,
        attempt=attempt,
        task_id=task_of(attempt),
        claim=claim_of(attempt, claimer),
        worker=f"worker-{claimer}",
        results={"value": attempt},
    )


def failed(attempt: int, claimer: str | None = "a", reason: Reason = Reason.TRAINER_ERROR) -> ev.AttemptFailed:
    claim = None if claimer is None else claim_of(attempt, claimer)
    return ev.AttemptFailed(run_id=RUN, attempt=attempt, claim=claim, reason=reason)


def attempt_cancelled(attempt: int, claimer: str | None = None) -> ev.AttemptCancelled:
    claim = None if claimer is None else claim_of(attempt, claimer)
    return ev.AttemptCancelled(run_id=RUN, attempt=attempt, claim=claim)


def lost(attempt: int, claimer: str = "a") -> ev.AttemptLost:
    return ev.AttemptLost(run_id=RUN, attempt=attempt, claim=claim_of(attempt, claimer))


def cancel_requested(command: str = "c1") -> ev.RunCancelRequested:
    return ev.RunCancelRequested(run_id=RUN, actor="alice", command_id=command)


def reprioritised(priority: int, command: str = "p1") -> ev.RunReprioritised:
    return ev.RunReprioritised(run_id=RUN, actor="alice", command_id=command, priority=priority)


def ended(event_type: EventType, attempt: int = 0) -> End:
    """One of the three terminal events of an accepted run, after `attempt` attempts."""
    common = {
        "run_id": RUN,
        "run_name": "a run",
        "project": "AutoML",
        "trainer": "sklearn",
        "attempt": attempt,
        "accepted_at": "2026-11-05T08:00:00Z",
        "ended_at": "2026-11-05T08:01:00Z",
    }
    cls = ev.FACTS[event_type]
    reason = {} if event_type is EventType.RUN_COMPLETED else {"reason": Reason.USER}
    fact = cls.model_validate(common | reason)
    assert isinstance(fact, End)
    return fact


def event(fact: Fact, *, now: float = 0.0, writer: str = "w") -> Event:
    return make_event(fact, source=SOURCE, writer=writer, now=now)


def log_of(facts: Sequence[Fact]) -> list[tuple[int, Event]]:
    """The facts as records, at offsets 10, 20, 30 ..., so that a duplicate fits between any two."""
    return [(10 * i, event(fact, now=float(i))) for i, fact in enumerate(facts, start=1)]


@st.composite
def script(draw: st.DrawFn, writer: str) -> list[Fact]:
    """What one planner with its worker would append, if it believed for a while that it is alone."""
    either = st.sampled_from(["a", "b"])
    facts: list[Fact] = [draw(st.sampled_from([accepted(), accepted("d2", 1), accepted()]))]
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        facts.append(dispatched(attempt, writer))
        if draw(st.booleans()):
            facts.append(queued(attempt, draw(either)))
        if draw(st.booleans()):
            facts.append(
                draw(st.sampled_from([cancel_requested(writer), reprioritised(attempt, f"{writer}{attempt}")]))
            )
        task_writer = draw(either)
        facts.append(started(attempt, task_writer, writer))
        outcome = draw(st.sampled_from(["succeeded", "failed", "lost", "cancelled", "planner failed", "nothing"]))
        match outcome:
            case "succeeded":
                facts.append(succeeded(attempt, writer))
            case "failed":
                facts.append(failed(attempt, writer))
            case "lost":
                facts.append(lost(attempt, draw(either)))
            case "cancelled":
                facts.append(attempt_cancelled(attempt, draw(st.sampled_from([None, writer]))))
            case "planner failed":
                facts.append(failed(attempt, None))
            case _:
                pass
        if outcome in ("succeeded", "cancelled"):
            break
    end = draw(st.sampled_from([EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED]))
    facts.append(ended(end, attempt))
    return facts


@st.composite
def interleavings(draw: st.DrawFn) -> list[Fact]:
    """Two writers' scripts in any interleaving, with any of their records lost, doubled or late."""
    left, right = draw(script("a")), draw(script("b"))
    merged: list[Fact] = []
    while left or right:
        source = left if left and (not right or draw(st.booleans())) else right
        merged.append(source.pop(0))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(merged) - 1))
        again = draw(st.integers(at, len(merged)))
        merged.insert(again, merged[at])
    if draw(st.booleans()):
        del merged[draw(st.integers(0, len(merged) - 1))]
    return merged
