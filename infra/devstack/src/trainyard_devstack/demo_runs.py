"""What the demo trains and what it expects: pure. The list is `examples/demo.json`, the requests lie beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard_schemas.codec import decode_object
from trainyard_schemas.errors import ContractError
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase

LIST_FILE = "demo.json"


@dataclass(frozen=True, slots=True)
class DemoRun:
    """One request of the demo and its quality floor: the value must be `at_least` or `at_most` so much."""

    request: Mapping[str, Any]
    at_least: float | None
    at_most: float | None

    @property
    def name(self) -> str:
        """The request's run_name."""
        return str(self.request["run_name"])

    @property
    def floor(self) -> float:
        """The figure that the value must reach."""
        floor = self.at_most if self.at_least is None else self.at_least
        assert floor is not None
        return floor

    @property
    def demand(self) -> str:
        """The floor in words."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"

    def is_reached(self, state: RunState | None) -> bool:
        """Whether the run completed with a value on the right side of its floor, and of the baseline."""
        if state is None or state.phase is not RunPhase.COMPLETED:
            return False
        results = state.results or {}
        value, baseline = results.get("value"), results.get("baseline")
        if not isinstance(value, int | float) or not isinstance(baseline, int | float):
            return False
        if self.at_least is not None:
            return value >= self.at_least and value > baseline
        return value <= self.floor and value < baseline


def demo_runs(read: Callable[[str], bytes]) -> tuple[DemoRun, ...]:
    """The demo's runs; `read` gives the bytes of a file by its path below `examples/`.

    Raises ValueError for a list that cannot be used, naming what is wrong in it.
    """
    found = []
    for index, entry in enumerate(_document(read, LIST_FILE).get("runs", [])):
        where = f"examples/{LIST_FILE}: runs.{index}"
        bounds = {key: entry.get(key) for key in ("at_least", "at_most")}
        given = [value for value in bounds.values() if isinstance(value, int | float)]
        if not isinstance(entry.get("request"), str) or len(given) != 1:
            raise ValueError(f"{where} needs a request and either at_least or at_most, a number")
        request = _document(read, entry["request"])
        if not isinstance(request.get("run_name"), str):
            raise ValueError(f"examples/{entry['request']}: run_name is missing; the demo tells its runs apart by it")
        found.append(DemoRun(request, bounds["at_least"], bounds["at_most"]))
    if not found:
        raise ValueError(f"examples/{LIST_FILE}: runs is missing or empty")
    return tuple(found)


def _document(read: Callable[[str], bytes], path: str) -> dict[str, Any]:
    try:
        return decode_object(read(path))
    except ContractError as error:
        raise ValueError(f"examples/{path}: {error}") from error
