"""What fetching needs of the outside: an opened remote file, and names of hosts resolved. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from trainyard_trainer_worker.spec import AttemptError, Detail, dataset_unreachable

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host, in the order to try them. Raises OSError where there are none."""


@dataclass(frozen=True, slots=True)
class Body:
    """A remote file that is open: its bytes, in order, once. Reading raises TryAgain where fewer came than were said.

    `size_bytes` is what the server says (None: nothing). `validator` names this very content where the server promises
    so (a strong ETag), else None.
    """

    chunks: AsyncIterator[bytes]
    size_bytes: int | None = None
    validator: str | None = None


Opened = AbstractAsyncContextManager[Body | None]
"""Entered: the body, or None where the content is still the one that the validator names."""


class TryAgain(AttemptError):
    """What may pass by itself: a lost connection, a busy server. Reading again is harmless."""

    def __init__(self, detail: Detail, message: str) -> None:
        unreachable = dataset_unreachable(detail, message)
        super().__init__(unreachable.reason, unreachable.detail, unreachable.message)
