"""What ClearML adds to the log: queues, workers and consoles. Asked only when somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused
from trainyard_submitter.gateway.fleet_view import Fleet

FRESH_S: Final = 1.0
"""An answer of this age is good enough: however many look, ClearML is asked so often at most."""

MAX_EVENTS: Final = 20_000
"""Console events that are read for one tail: ClearML pages them from the first."""

_PAGE: Final = 500


class LogUnreadable(Exception):
    """The console cannot be had; the message says why, for a person."""


class ClearMLFleet:
    """Queues, workers and consoles. `clearml` is None where no keys are given."""

    def __init__(self, clearml: ClearMLClient | None) -> None:
        self._clearml = clearml
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self.fleet: Fleet | None = None
        self.trouble = "has not been asked yet"

    async def look(self) -> Fleet | None:
        """The queues and workers, at most `FRESH_S` old; None where ClearML does not say, and `trouble` says why."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= FRESH_S:
                self.fleet, self.trouble = await self._ask()
                self._asked_at = time.monotonic()
            return self.fleet

    async def console(self, task_id: str, most: int) -> list[str]:
        """The last lines, at most `most`, of a task's console. Raises LogUnreadable."""
        if self._clearml is None:
            raise LogUnreadable("ClearML's keys are not known to this page")
        lines: deque[str] = deque(maxlen=most)
        try:
            after_ms, seen = None, 0
            for _ in range(MAX_EVENTS // _PAGE):
                # Again from the last millisecond, which may hold more events than fitted.
                page = await self._clearml.task_log(task_id, after_ms=after_ms, limit=_PAGE + seen)
                fresh = page[seen:]
                for event in fresh:
                    lines.extend(str(event.get("msg", "")).splitlines())
                if len(fresh) < _PAGE:
                    break
                last_ms = int(fresh[-1].get("timestamp") or 0)
                after_ms, seen = last_ms - 1, sum(int(e.get("timestamp") or 0) == last_ms for e in page)
        except ClearMLRefused as refusal:
            raise LogUnreadable(f"ClearML does not give the console ({refusal.code}): {refusal.msg}") from refusal
        except ClearMLError as error:
            raise LogUnreadable(str(error)) from error
        return list(lines)

    async def _ask(self) -> tuple[Fleet | None, str]:
        if self._clearml is None:
            return None, "ClearML's keys are not known to this page"
        try:
            return Fleet(await self._clearml.queues(), await self._clearml.workers()), ""
        except ClearMLError as error:
            return None, str(error)
