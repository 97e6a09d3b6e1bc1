"""The rules as they are now: from a file or from clearml-serving's control-plane task, looked at again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from trainyard_runtime.clearml.errors import ClearMLError
from trainyard_runtime.logs import get_logger
from trainyard_stats.serving.hocon_reader import read_hocon
from trainyard_stats.serving.metric_rules import NO_RULES, Rules, RulesError, parse_rules

TASK_FIELDS: Final = ("id", "configuration", "hyperparams")


class Tasks(Protocol):
    """What is needed of ClearML."""

    async def get_task(self, task_id: str, only_fields: Sequence[str] = ()) -> dict[str, Any] | None:
        """A task, or None."""


class RulesKeeper:
    """Holds one deployment's `rules`.

    A text that is wrong changes nothing: the last good rules stay, and `problem` says what it is.
    """

    def __init__(self, deployment: str, file: Path | None, task_id: str, tasks: Tasks | None, poll_s: float) -> None:
        """The task is read where there is a `task_id`, else the file; with neither nothing is ever looked at."""
        self.deployment = deployment
        self.is_of_task = bool(task_id)
        self.rules: Rules = NO_RULES
        self.problem = ""
        self.is_switched_off = False
        self._file = file
        self._task_id = task_id
        self._tasks = tasks if task_id else None
        self._poll_s = poll_s
        self._seen: tuple[str, str] | None = None
        self._log = get_logger(component="rules", deployment=deployment)

    async def look(self) -> None:
        """Look once, and take up what is new. Raises RulesError, OSError, ClearMLError."""
        text, frequency = await self._read()
        if (text, frequency) == self._seen:
            return
        rules = await asyncio.to_thread(_parsed, text, frequency)
        self.rules, self._seen = rules, (text, frequency)
        self.is_switched_off = rules.default.frequency == 0
        self._log.info("rules", action="configure", endpoints=len(rules.endpoints), frequency=frequency)

    async def keep(self) -> None:
        """Look for ever."""
        while self._file is not None or self._tasks is not None:
            try:
                await self.look()
                self.problem = ""
            except (RulesError, OSError, ClearMLError) as error:
                if str(error) != self.problem:
                    self._log.warning("rules stay as they are", action="configure", error=str(error))
                self.problem = str(error)
            await asyncio.sleep(self._poll_s)

    async def _read(self) -> tuple[str, str]:
        """The text of metric_logging, and that of the deployment's frequency."""
        if self._tasks is not None:
            return _of_task(self._task_id, await self._tasks.get_task(self._task_id, TASK_FIELDS))
        if self._file is not None:
            try:
                return await asyncio.to_thread(self._file.read_text, encoding="utf-8"), ""
            except UnicodeDecodeError as error:
                raise RulesError(f"metric_logging: is no UTF-8 text ({error.reason})") from error
        return "{}", ""


def _of_task(task_id: str, task: Mapping[str, Any] | None) -> tuple[str, str]:
    if task is None:
        raise RulesError(f"CLEARML_SERVING_TASK_ID: ClearML knows no task {task_id}")
    item = (task.get("configuration") or {}).get("metric_logging") or {}
    general = (task.get("hyperparams") or {}).get("General") or {}
    frequency = (general.get("metric_logging_freq") or {}).get("value")
    return str(item.get("value") or "{}"), "" if frequency in (None, "None") else str(frequency)


def _parsed(text: str, frequency: str) -> Rules:
    try:
        number = float(frequency) if frequency else None
    except ValueError:
        raise RulesError("metric_logging_freq: is no number from 0 to 1") from None
    return parse_rules(read_hocon(text), number)
