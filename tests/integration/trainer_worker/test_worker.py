"""The worker as a process, against a real broker and a ClearML server."""

from __future__ import annotations

import hashlib

from tests.integration.trainer_worker.stage import Stage, example
from trainyard_schemas.events import AttemptSucceeded
from trainyard_schemas.lifecycle import fold
from trainyard_schemas.topics import TopicName
from trainyard_schemas.vocabulary import EventType, RunPhase


def test_a_dispatched_attempt_becomes_a_registered_model_and_a_succeeded_event(stage: Stage) -> None:
    worker = stage.start_worker()
    run = stage.dispatch(example("wine-sklearn"))
    event = stage.outcome(run.run_id)
    fact = event.fact
    assert isinstance(fact, AttemptSucceeded), fact
    results = fact.results
    assert results["value"] > results["baseline"]  # type: ignore[operator]
    stage.wait_status(run.task_id, "completed")
    state = fold(stage.events(run.run_id))
    assert state is not None
    assert state.phase is RunPhase.ATTEMPT_SUCCEEDED
    model = results["model"]
    assert isinstance(model, dict)
    archive = stage.clearml(lambda client: client.read_file(str(model["uri"])))
    assert hashlib.sha256(archive).hexdigest() == model["sha256"]
    assert run.run_id in str(model["uri"])
    assert fact.claim in str(model["uri"])
    beats = [e for _, e in stage.events(run.run_id, TopicName.RUNS_HEARTBEATS)]
    assert beats
    assert {e.type for e in beats} == {EventType.ATTEMPT_HEARTBEAT}
    print(results)
    print(stage.task(run.task_id))
    assert worker.end() == 0
