"""Reading and appending, with this package's errors for what a broker refuses or does not answer."""

from __future__ import annotations

import time
from types import TracebackType

from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.records import AppendUnknown, LogRefused, LogUnavailable
from trainyard_runtime.kafka.sync_client import SyncPublisher, SyncReader
from trainyard_schemas.ids import Origin, partition_of
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_submitter.errors import NotAllowed, OutcomeUnknown, Unavailable
from trainyard_submitter.ordering import Order
from trainyard_submitter.submission import Prepared


class OpenReader:
    """A reader for the length of one block, whose errors are this package's."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._reader: SyncReader | None = None

    def __enter__(self) -> SyncReader:
        try:
            # Half, so that connecting and the first question end within the promised time together.
            self._reader = SyncReader(self._address, timeout_s=self._timeout_s / 2)
        except LogRefused as error:
            raise NotAllowed(str(error)) from error
        except LogUnavailable as error:
            raise Unavailable(str(error)) from error
        return self._reader

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.close()
        if isinstance(error, LogRefused):
            raise NotAllowed(str(error)) from error
        if isinstance(error, LogUnavailable):
            raise Unavailable(str(error)) from error


def publish(publisher: SyncPublisher, topic: str, prepared: Prepared | Order, *, timeout_s: float) -> Origin:
    """Append until the brokers have it for good; where it stands. A lost answer is asked for again within `timeout_s`.

    Raises Unavailable, OutcomeUnknown, NotAllowed.
    """
    deadline = time.monotonic() + timeout_s
    sent = False
    while True:
        try:
            return publisher.publish(
                topic,
                prepared.value,
                prepared.headers,
                key=prepared.run_id.encode(),
                partition=partition_of(prepared.run_id, RUN_PARTITIONS),
                on_sent=_sent,
            )
        except AppendUnknown as error:
            sent = True
            if time.monotonic() >= deadline:
                raise _unknown(error, prepared) from error
        except LogUnavailable as error:
            if sent:
                raise _unknown(error, prepared) from error
            raise Unavailable(f"{error}; nothing was sent") from error
        except LogRefused as error:
            raise NotAllowed(str(error)) from error


def _sent() -> None:
    failpoint("S2")


def _unknown(error: Exception, prepared: Prepared | Order) -> OutcomeUnknown:
    if isinstance(prepared, Order):
        repeat = f"look at run {prepared.run_id}, and give the order again"
    elif prepared.keyed:
        repeat = "send it again with the same idempotency key"
    else:
        repeat = f"look for run {prepared.run_id}"
    return OutcomeUnknown(f"{error}; the request may have arrived all the same: {repeat}", prepared.run_id)
