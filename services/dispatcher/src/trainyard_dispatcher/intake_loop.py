"""Intake: from a batch of requests to durable answers, then the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from trainyard_dispatcher.intake import Answer, answer, reject_as_internal, reject_as_too_large
from trainyard_dispatcher.log_ports import LifecycleLog
from trainyard_dispatcher.metrics import DispatcherMetrics
from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.kafka.records import LogRefused, LogUnavailable, Record
from trainyard_runtime.logs import get_logger
from trainyard_schemas.events import RunAccepted

MAX_INTERNAL_ERRORS = 20
"""So many errors of our own in a row stop intake, instead of draining the topic into the dead letters."""

_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 5.0

Commit = Callable[[Mapping[tuple[str, int], int]], Awaitable[bool]]


class TooManyInternalErrors(RuntimeError):
    """Our own code failed on record after record: somebody has to look before more are refused."""


class Intake:
    """Answers batches. Guarantees: a record's offset is committed only after its answer is durable; a batch that Kafka
    cannot take stays in hand, with backoff, until it can; a refused record never stops the next one.
    """

    def __init__(
        self,
        log: LifecycleLog,
        tenant: str,
        metrics: DispatcherMetrics,
        decide: Callable[[Record, str], Answer] = answer,
    ) -> None:
        self._log = log
        self._tenant = tenant
        self._metrics = metrics
        self._decide = decide
        self._internal_errors = 0
        self._logger = get_logger(component="intake")

    async def handle(self, records: Sequence[Record], commit: Commit) -> None:
        """Answer every record of the batch, then commit `{partition: offset + 1}`."""
        failpoint("I1")
        answering = [asyncio.ensure_future(self._answer_durably(record)) for record in records]
        try:
            for task in asyncio.as_completed(answering):
                await task
                failpoint("I2")
        finally:
            for unfinished in answering:
                unfinished.cancel()
        failpoint("I3")
        ends: dict[tuple[str, int], int] = {}
        for record in records:
            ends[(record.topic, record.partition)] = record.offset + 1
        await commit(ends)

    async def _answer_durably(self, record: Record) -> None:
        reply = self._answer(record)
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await self._append(reply)
                break
            except LogUnavailable as error:
                self._logger.warning(
                    "answer not appended, trying again",
                    action="retry",
                    partition=record.partition,
                    offset=record.offset,
                    backoff_s=backoff_s,
                    error=str(error),
                )
                await asyncio.sleep(backoff_s)
                backoff_s = min(_LAST_BACKOFF_S, 2 * backoff_s)
            except LogRefused:
                reply = reject_as_too_large(record, self._tenant)
        self._count(record, reply)

    async def _append(self, reply: Answer) -> None:
        """The dead letter first: whoever sees the rejection finds it."""
        if reply.dead_letter is not None:
            await self._log.append_dead_letter(reply.run_id, reply.dead_letter)
        await self._log.append_fact(reply.fact)

    def _answer(self, record: Record) -> Answer:
        try:
            reply = self._decide(record, self._tenant)
        except Exception as error:
            self._internal_errors += 1
            self._logger.error(
                "intake failed on a record",
                action="internal_error",
                partition=record.partition,
                offset=record.offset,
                in_a_row=self._internal_errors,
                exc_info=error,
            )
            if self._internal_errors >= MAX_INTERNAL_ERRORS:
                raise TooManyInternalErrors(f"{self._internal_errors} records in a row") from error
            return reject_as_internal(record, self._tenant, error)
        self._internal_errors = 0
        return reply

    def _count(self, record: Record, reply: Answer) -> None:
        fact = reply.fact
        self._metrics.requests.inc()
        if isinstance(fact, RunAccepted):
            self._metrics.accepted.inc()
        else:
            self._metrics.rejected.labels(fact.reason.value, fact.detail).inc()
            self._logger.info(
                "request rejected",
                action="reject",
                run_id=fact.run_id,
                partition=record.partition,
                offset=record.offset,
                reason=fact.reason.value,
                detail=fact.detail,
                message=fact.message,
            )
