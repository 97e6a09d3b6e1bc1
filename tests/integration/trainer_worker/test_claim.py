"""The claim on a real log: many pops of one task at the same moment."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.integration.trainer_worker.stage import Stage, example
from trainyard_runtime.clearml import ClearMLClient
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_schemas.lifecycle import fold
from trainyard_schemas.vocabulary import RunPhase
from trainyard_trainer_worker.clearml_tasks import ClearMLTasks
from trainyard_trainer_worker.kafka_lifecycle import KafkaLifecycle, News
from trainyard_trainer_worker.kafka_requests import KafkaRequests
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.outcomes import Outcomes
from trainyard_trainer_worker.ports import Job, Ports
from trainyard_trainer_worker.protocol import Handled, Worker, handle
from trainyard_trainer_worker.serving import StoppablePatience, beside
from trainyard_trainer_worker.spec import ModelFile, Outcome, Succeeded

POPS = 12


class Training:
    """Trains nothing, and counts."""

    def __init__(self) -> None:
        self.claims: list[str] = []

    async def run(self, job: Job, lease: Lease) -> Outcome:
        self.claims.append(job.claim)
        return Succeeded({"metric": "accuracy", "value": 1.0}, ModelFile("m", "0", 0))

    async def publish(self, job: Job, outcome: Succeeded, lease: Lease) -> Mapping[str, Any]:
        return outcome.results

    async def reveal(self, results: Mapping[str, Any]) -> None:
        return


def test_of_many_pops_of_one_task_at_the_same_moment_one_trains(stage: Stage) -> None:
    run = stage.dispatch(example("wine-sklearn"))
    training = Training()

    async def pop_all() -> list[Handled]:
        writer, reader = LogWriter(stage.kafka), LogReader(stage.kafka)
        async with ClearMLClient(stage.server.settings()) as client:
            patience = StoppablePatience(asyncio.Event(), News(stage.kafka, ()))
            ports = Ports(
                log=KafkaLifecycle(stage.kafka, writer, reader),
                requests=KafkaRequests(stage.kafka, writer),
                tasks=ClearMLTasks(client),
                training=training,
                publisher=training,
                outbox=Outcomes(stage.kafka, writer, None, patience),
                patience=patience,
                beside=beside,
                new_claim=lambda: uuid.uuid4().hex,
            )
            worker = Worker("w", uuid.uuid4().hex, stage.kafka.topic_prefix)
            try:
                return list(
                    await asyncio.gather(*(handle(run.task_id, stage.queue, worker, ports) for _ in range(POPS)))
                )
            finally:
                await writer.stop()
                await reader.stop()

    handled = Counter(asyncio.run(pop_all()))
    assert handled[Handled.SUCCEEDED] == 1
    assert handled[Handled.CLAIM_LOST] > 0
    assert handled[Handled.SUCCEEDED] + handled[Handled.CLAIM_LOST] + handled[Handled.NOT_DISPATCHED] == POPS
    state = fold(stage.events(run.run_id))
    assert state is not None
    assert state.phase is RunPhase.ATTEMPT_SUCCEEDED
    assert training.claims == [state.claim]
