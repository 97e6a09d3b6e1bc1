"""Whatever breaks while a claim is held becomes a failed attempt: a run must never wait for a worker's bug."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from trainyard_runtime.logs import bound, get_logger
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.ports import (
    ClaimVoid,
    Ending,
    Job,
    Publisher,
    PublishFailed,
    TasksRefused,
    TasksUnavailable,
    Training,
)
from trainyard_trainer_worker.spec import Detail, Failed, Outcome, Succeeded


class AnsweringTraining:
    """`Training` that answers `internal` where the inner one raises; the traceback is logged."""

    def __init__(self, inner: Training) -> None:
        self._inner = inner

    async def run(self, job: Job, lease: Lease) -> Outcome:
        """See ports.Training."""
        with _bound_to(job):
            try:
                return await self._inner.run(job, lease)
            except Exception as error:  # noqa: BLE001 - logged, and answered as the attempt's outcome
                get_logger().error("training broke", action="train", exc_info=error)
                return Failed(Reason.INTERNAL, Detail.UNEXPECTED, f"the worker broke: {type(error).__name__}")


class AnsweringPublisher:
    """`Publisher` that fails in the words of its port, whatever the inner one raises."""

    def __init__(self, inner: Publisher, over: Callable[[Job], Awaitable[None]]) -> None:
        """`over` is awaited when there is nothing more to publish, however it ended."""
        self._inner = inner
        self._over = over

    async def reveal(self, results: Mapping[str, Any]) -> None:
        """See ports.Publisher. What breaks is refused: an outcome that has won must not stop the worker."""
        try:
            await self._inner.reveal(results)
        except (TasksRefused, TasksUnavailable, Ending):
            raise
        except Exception as error:
            get_logger().error("the model was not shown", action="reveal", exc_info=error)
            raise TasksRefused(f"the worker broke while showing the model: {type(error).__name__}") from error

    async def publish(self, job: Job, outcome: Succeeded, lease: Lease) -> Mapping[str, Any]:
        """See ports.Publisher."""
        with _bound_to(job):
            try:
                return await self._inner.publish(job, outcome, lease)
            except (PublishFailed, Ending, ClaimVoid):
                raise
            except Exception as error:
                get_logger().error("publishing broke", action="publish", exc_info=error)
                raise PublishFailed(
                    Reason.INTERNAL, Detail.UNEXPECTED, f"the worker broke while publishing: {type(error).__name__}"
                ) from error
            finally:
                await self._over(job)


def _bound_to(job: Job) -> AbstractContextManager[None]:
    return bound(run_id=job.run_id, attempt=job.attempt, claim=job.claim)
