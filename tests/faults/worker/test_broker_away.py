"""The broker goes away in the middle of an attempt, and comes back: the run completes in this attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker.stage import Stage, example, staged, until
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_runtime.outbox import Outbox
from trainyard_schemas.events import AttemptStarted, AttemptSucceeded
from trainyard_schemas.vocabulary import EventType


def started(stage: Stage, run_id: str) -> bool:
    return any(isinstance(event.fact, AttemptStarted) for _, event in stage.events(run_id))


@pytest.mark.slow
def test_a_broker_that_is_away_when_training_ends_costs_no_run(
    topic_prefix: str, clearml_server: ClearMLServer, tmp_path: Path
) -> None:
    kafka = EmbeddedKafka(tmp_path / "kafka")
    with kafka, staged(kafka.bootstrap, topic_prefix, clearml_server, tmp_path) as stage:
        worker = stage.start_worker()
        run = stage.dispatch({**example("wine-flaml"), "time_budget_s": 3})
        until(lambda: started(stage, run.run_id), "the run is claimed")
        address = kafka.bootstrap
        kafka.stop()
        until(lambda: any(line.get("action") == "deliver" for line in worker.log()), "the outcome waits", 90)
        until(lambda: worker.page("/readyz")[0] == 503, "the worker says that it cannot work")
        assert "outbox_depth 1.0" in worker.page("/metrics")[1]
        with Outbox(tmp_path / "worker" / "outbox.sqlite") as outbox:
            assert len(outbox) == 1
        assert stage.task(run.task_id)["status"] == "in_progress"
        kafka.start()
        assert kafka.bootstrap == address
        assert isinstance(stage.outcome(run.run_id).fact, AttemptSucceeded)
        stage.wait_status(run.task_id, "completed")
        outcomes = [event for _, event in stage.events(run.run_id) if event.type is EventType.ATTEMPT_SUCCEEDED]
        assert len({event.id for event in outcomes}) == 1
        until(lambda: worker.page("/readyz")[0] == 200, "the worker is ready again")
