"""One claim as its holder knows it from the log: how long it may train yet, and what it was ordered.

Rules 5 and 6 of the architecture. A worker trains only while the time since the *sending* of its last fetch that
reached the end of its run's partition is less than `lease_s`. All times here are seconds on the steady clock, which
also counts while the host is suspended. The lease knows nothing of processes: whoever trains listens (`listen`),
freezes the training when `expires_at` passes, thaws it when the lease is renewed, and ends it when there is an order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainyard_schemas.vocabulary import Reason


@dataclass(frozen=True, slots=True)
class Stop:
    """End the training and say so in the log: the claim still holds. `actor` and `message` are who asked, and why."""

    reason: Reason
    actor: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Void:
    """End the training and leave without a word: the attempt is over, or another claim holds it."""

    why: str


Order = Stop | Void


class Lease:
    """The lease of one claim. Not for several threads. A `Void` replaces a `Stop`; nothing replaces a `Void`."""

    def __init__(self, lease_s: float, renewed_at: float) -> None:
        """`renewed_at`: when the fetch was sent that showed the claim to have won."""
        self.lease_s = lease_s
        self.renewed_at = renewed_at
        self.order: Order | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def expires_at(self) -> float:
        """From this moment on nothing may be computed or published under this claim."""
        return self.renewed_at + self.lease_s

    @property
    def is_void(self) -> bool:
        """True once the log has shown that the claim does not hold any more."""
        return isinstance(self.order, Void)

    def is_valid(self, now: float) -> bool:
        """True where the claim certainly holds `now`."""
        return now < self.expires_at and not self.is_void

    def renew(self, sent_at: float) -> None:
        """A fetch that was sent at `sent_at` reached the log's end, and the claim is current."""
        if sent_at > self.renewed_at and not self.is_void:
            self.renewed_at = sent_at
            self._tell()

    def give(self, order: Order) -> None:
        """What the log orders."""
        if self.order is None or (isinstance(order, Void) and not self.is_void):
            self.order = order
            self._tell()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every change. Returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()
