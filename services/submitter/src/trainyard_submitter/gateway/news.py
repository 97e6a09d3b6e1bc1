"""Who follows the live events, and what each is told. A follower that does not keep up is let go: it comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

KEEP_ALIVE_S = 15.0
"""After so long without news a comment is sent, so that a browser that has gone is noticed."""

_BACKLOG = 1_000


class Crowded(Exception):
    """As many follow as may."""


class News:
    """Texts for everybody who follows. `tell` never waits; for one event loop."""

    def __init__(self, max_followers: int) -> None:
        self._max_followers = max_followers
        self._followers: set[asyncio.Queue[str | None]] = set()
        self._anybody = asyncio.Event()
        self._closed = False

    @property
    def followers(self) -> int:
        """How many follow now."""
        return len(self._followers)

    def tell(self, event: str, data: str) -> None:
        """One event for all; `data` is one line."""
        text = message(event, data)
        for queue in list(self._followers):
            try:
                queue.put_nowait(text)
            except asyncio.QueueFull:
                self._let_go(queue)

    async def somebody(self) -> None:
        """Wait until at least one follows."""
        await self._anybody.wait()

    def follow(self, first: str) -> AsyncGenerator[str]:
        """Texts as they come, `first` before all. Raises Crowded at once where too many follow already."""
        if self._closed or len(self._followers) >= self._max_followers:
            raise Crowded
        queue: asyncio.Queue[str | None] = asyncio.Queue(_BACKLOG)
        self._followers.add(queue)
        self._anybody.set()
        return self._texts(queue, first)

    def close(self) -> None:
        """Let everybody go, and take nobody any more."""
        self._closed = True
        for queue in list(self._followers):
            self._let_go(queue)

    async def _texts(self, queue: asyncio.Queue[str | None], first: str) -> AsyncGenerator[str]:
        try:
            yield first
            while True:
                text: str | None = ": nothing new\n\n"
                with suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        text = await queue.get()
                if text is None:
                    return
                yield text
        finally:
            self._forget(queue)

    def _let_go(self, queue: asyncio.Queue[str | None]) -> None:
        self._forget(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    def _forget(self, queue: asyncio.Queue[str | None]) -> None:
        self._followers.discard(queue)
        if not self._followers:
            self._anybody.clear()


def message(event: str, data: str) -> str:
    """One server-sent event."""
    return f"event: {event}\ndata: {data}\n\n"
