"""One call as a handler sees it, and typed access to its body."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from trainyard_devstack.clearml_api.errors import ApiError, bad_field, invalid
from trainyard_devstack.clearml_api.store import Store

T = TypeVar("T")

COMPANY: Final = {"id": "747261696e7961726400000000000000", "name": "trainyard"}
USER: Final = {"id": "747261696e7961726400000000000001", "name": "trainyard"}

SHORTEST_NAME: Final = 3


@dataclass(frozen=True, slots=True)
class Call:
    """`body` is the JSON object sent (query parameters included); `lines` the events of a batch; `now` is aware UTC."""

    store: Store
    now: datetime
    body: dict[str, Any]
    lines: list[Any] = field(default_factory=list)

    @property
    def timestamp(self) -> str:
        """`now` as ClearML writes it."""
        return iso(self.now)

    def text(self, name: str) -> str:
        """A required string. Errors: 400/12."""
        return self._typed(name, str, required=True) or ""

    def text_or(self, name: str, default: str) -> str:
        """A string or the default."""
        value = self._typed(name, str)
        return default if value is None else value

    def flag(self, name: str) -> bool:
        """A boolean, false if absent."""
        return bool(self._typed(name, bool))

    def number(self, name: str, default: int) -> int:
        """An integer or the default; a string of digits (a query parameter) counts."""
        value = self.body.get(name)
        if isinstance(value, str) and value.lstrip("-").isdigit():
            return int(value)
        typed = self._typed(name, int)
        return default if typed is None else typed

    def items(self, name: str, *, required: bool = False) -> list[Any]:
        """A list, empty if absent."""
        return self._typed(name, list, required=required) or []

    def mapping(self, name: str) -> dict[str, Any]:
        """An object, empty if absent."""
        return self._typed(name, dict) or {}

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """The part of the body that has these names."""
        return {name: self.body[name] for name in names if name in self.body}

    def _typed(self, name: str, kind: type[T], *, required: bool = False) -> T | None:
        value = self.body.get(name)
        if value is None:
            if required:
                raise bad_field(name, "field is required")
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise bad_field(name, f"expected {kind.__name__}, got {type(value).__name__}")
        return value


Handler = Callable[[Call], dict[str, Any]]


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds, as ClearML writes times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def new_id() -> str:
    """32 hexadecimal digits."""
    return uuid.uuid4().hex


def checked_name(name: str) -> str:
    """The name, if ClearML takes it. Errors: 400/800."""
    if len(name.strip()) < SHORTEST_NAME:
        raise invalid(f"name {name!r} is shorter than {SHORTEST_NAME} characters")
    return name


def updated(fields: dict[str, Any]) -> dict[str, Any]:
    """The answer of an edit."""
    return {"updated": 1, "fields": fields}


def each(ids: list[Any], act: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Do something to many, as the `_many` calls answer: who succeeded, who failed and with which codes."""
    succeeded: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for one in ids:
        try:
            succeeded.append({"id": one, **act(str(one))})
        except ApiError as error:
            codes = [error.code, error.subcode]
            failed.append({"id": one, "error": {"codes": codes, "msg": error.msg, "data": error.data}})
    return {"succeeded": succeeded, "failed": failed}
