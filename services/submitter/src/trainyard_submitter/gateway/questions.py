"""What may be asked of the API, and what is wrong with a question: pure, and the field is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter.gateway.run_document import Json

MAX_LIMIT = 1_000
MAX_LOG_LINES = 2_000
T = TypeVar("T")
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class BadQuestion(Exception):
    """A parameter cannot be used: `field` names it, the message says what it must be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class RunsQuestion:
    """Which runs: all that are given must hold. `name` is a part of the run's name, in either case."""

    limit: int = 100
    state: RunPhase | None = None
    trainer: str | None = None
    name: str | None = None

    def fits(self, row: Json) -> bool:
        """Whether a row is asked for."""
        return (
            (self.state is None or row["state"] == self.state.value)
            and (self.trainer is None or row["trainer"] == self.trainer)
            and (self.name is None or self.name.casefold() in str(row["run_name"] or "").casefold())
        )

    def answer(self, rows: Iterable[Json]) -> Json:
        """At most `limit` of the rows that fit, and how many fit in all."""
        fitting = [row for row in rows if self.fits(row)]
        return {"runs": fitting[: self.limit], "total": len(fitting)}


def runs_question(parameters: Iterable[tuple[str, str]]) -> RunsQuestion:
    """The parameters of `/api/runs`. Raises BadQuestion."""
    given = _known(parameters, ("limit", "state", "trainer", "name"))
    return RunsQuestion(
        limit=_read(given, "limit", 100, _count(MAX_LIMIT)),
        state=_read(given, "state", None, _state),
        trainer=_read(given, "trainer", None, _text),
        name=_read(given, "name", None, _text),
    )


def log_lines(parameters: Iterable[tuple[str, str]]) -> int:
    """How many lines of a log are asked for: the parameter `lines` of `/api/runs/{run_id}/log`. Raises BadQuestion."""
    return _read(_known(parameters, ("lines",)), "lines", 500, _count(MAX_LOG_LINES))


def nothing_asked(parameters: Iterable[tuple[str, str]]) -> None:
    """For what takes no parameters. Raises BadQuestion."""
    _known(parameters, ())


def checked_run_id(text: str) -> str:
    """A whole run id. Raises BadQuestion."""
    if _RUN_ID.fullmatch(text) is None:
        raise BadQuestion("run_id", "write the whole id of a run, like 8e6ebf38-d034-5dc3-a3e1-c63e0edc1499")
    return text


def _known(parameters: Iterable[tuple[str, str]], names: tuple[str, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in parameters:
        if name not in names:
            raise BadQuestion(name[:60], f"is no parameter here; known are: {', '.join(names) or 'none'}")
        if name in found:
            raise BadQuestion(name, "is given more than once")
        found[name] = value
    return found


def _read(given: Mapping[str, str], name: str, default: T, read: Callable[[str], T]) -> T:
    if name not in given:
        return default
    try:
        return read(given[name])
    except ValueError as error:
        raise BadQuestion(name, str(error)) from None


def _count(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
            raise ValueError(f"must be a whole number from 1 to {most}")
        return int(text)

    return read


def _state(text: str) -> RunPhase:
    try:
        return RunPhase(text)
    except ValueError:
        raise ValueError(f"must be one of: {', '.join(RunPhase)}") from None


def _text(text: str) -> str:
    if not 1 <= len(text) <= 200:
        raise ValueError("must have 1 to 200 characters")
    return text
