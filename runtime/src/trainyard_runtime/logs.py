"""Logs: one JSON object a line on stderr, with everything bound that tells which run, attempt and record it is about.

Lines of libraries (stdlib logging) come out in the same form. Secrets are replaced before anything is written.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

from trainyard_runtime.lean_structlog import bound_contextvars, merge_contextvars, structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["bound", "configure_logs", "get_logger"]

MASK = "[secret]"
_SECRET_NAMES = ("password", "secret", "token", "authorization", "credential", "api_key", "access_key", "cookie")
_LEAST_SECRET_CHARACTERS = 4  # a shorter "secret" would mask ordinary text everywhere
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
REPEAT_AFTER_S = 10.0
_MAX_KINDS = 1_000
_NOISY = {
    "aiokafka": 30,
    "kafka": 30,
    "faststream": 30,
    "trainyard.faststream": 30,
    "httpx2": 30,
    "httpcore2": 30,
    "asyncio": 30,
}

bound = bound_contextvars
"""`with bound(run_id=..., attempt=..., partition=..., offset=...):` binds them to every line inside, per task."""


class Redactor:
    """A structlog processor that masks known secrets wherever they stand, and values under telling names."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(sorted({s for s in secrets if len(s) >= _LEAST_SECRET_CHARACTERS}, key=len, reverse=True))

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name in list(event):
            lowered = name.lower()
            if any(part in lowered for part in _SECRET_NAMES):
                event[name] = MASK
            else:
                event[name] = self.masked(event[name])
        return event

    def masked(self, value: Any) -> Any:
        """The value with every known secret replaced, down into lists and mappings."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, dict):
            return {k: self.masked(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.masked(v) for v in value]
        if isinstance(value, int | float | None):
            return value
        return self.masked(str(value))


class _OncePerPause(logging.Filter):
    """Lets a library say the same thing once in `REPEAT_AFTER_S`; the next line says how often it was said between.

    A client whose broker is away says so up to a hundred times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        key = (record.name, str(record.msg))
        said_at, withheld = self._said.get(key, (float("-inf"), 0))
        if record.created - said_at < REPEAT_AFTER_S:
            self._said[key] = (said_at, withheld + 1)
            return False
        if len(self._said) >= _MAX_KINDS:
            self._said.clear()
        self._said[key] = (record.created, 0)
        if withheld:
            record.msg = f"{record.msg} (and {withheld} times since the last such line)"
        return True


def configure_logs(
    service: str, *, level: str = "info", secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Set up structlog and stdlib logging for this process. `secrets` are never written, whatever logs them."""
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add("service", service),
    ]
    finishing: list[Processor] = [
        structlog.processors.format_exc_info,
        Redactor(secrets),
        structlog.processors.JSONRenderer(),
    ]
    out = stream or sys.stderr
    structlog.configure(
        processors=[*shared, *finishing],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finishing],
        )
    )
    handler.addFilter(_OncePerPause())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, _LEVELS[level]))


def get_logger(**bindings: Any) -> FilteringBoundLogger:
    """A logger; the first argument of its methods is the `event`, a short phrase that never changes."""
    logger: FilteringBoundLogger = structlog.get_logger(**bindings)
    return logger


def _add(name: str, value: str) -> Processor:
    def processor(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event[name] = value
        return event

    return processor
