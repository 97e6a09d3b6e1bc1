"""From the bytes of a request to a valid `RunRequest`: upcast old versions, validate, check against the registry.

Pure functions, one per version step (`v1 -> v2`); the original version is recorded beside the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainyard_schemas.codec import printable
from trainyard_schemas.errors import FieldError, Invalid, UnsupportedVersion
from trainyard_schemas.runs import SCHEMA_VERSION, RunRequest, whole
from trainyard_schemas.trainers import EXTRAS_NAMESPACES, TRAINERS, Trainer

SERVER_OWNED = frozenset(
    {
        "run_id",
        "task_id",
        "tenant",
        "image",
        "docker_image",
        "env",
        "environment",
        "attempt",
        "claim",
        "worker",
        "state",
    }
)
_MAX_ERRORS = 20
_FIELD_FIRST = re.compile(r"([a-z_.]+): ")


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request that passed every check.

    `original_version` is what was sent (1 where it named none), `unknown` the top-level fields that a version 1 body
    held and version 2 does not know, `warnings` sentences about what was accepted but will not be used.
    """

    request: RunRequest
    original_version: int
    unknown: Mapping[str, Any]
    warnings: tuple[str, ...]


def parse_request(body: Mapping[str, Any]) -> ParsedRequest:
    """Check and upcast a decoded request.

    Raises:
        UnsupportedVersion: `schema_version` is a whole number that this reader does not know.
        Invalid: any other wrong field; every one of them is named, up to 20.
    """
    version = version_of(body)
    warnings: list[str] = []
    unknown: dict[str, Any] = {}
    document = dict(body)
    for step in range(version, SCHEMA_VERSION):
        document, dropped, notes = _UPCASTS[step](document)
        unknown |= dropped
        warnings += notes
    document = _canonical_extras(document)
    try:
        request = RunRequest.model_validate(document)
    except ValidationError as error:
        raise Invalid("invalid_field", *sentences(error.errors(include_url=False, include_input=False))) from None
    request, notes = _fit_registry(request)
    return ParsedRequest(request, version, unknown, (*warnings, *notes))


def version_of(body: Mapping[str, Any]) -> int:
    """The version of a request's body, 1 where it names none. Raises Invalid, UnsupportedVersion."""
    if "schema_version" not in body:
        return 1
    version = whole(body["schema_version"])
    if isinstance(version, bool) or not isinstance(version, int):
        raise Invalid(
            "invalid_field",
            FieldError("schema_version", f"is not a whole number; send {SCHEMA_VERSION}, without quotes"),
        )
    if version not in range(1, SCHEMA_VERSION + 1):
        raise UnsupportedVersion(
            "schema_version",
            FieldError("schema_version", f"{version} is not known here; this reader knows 1 to {SCHEMA_VERSION}"),
        )
    return version


def _upcast_1_to_2(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Version 1 had the same fields, said no version, and let unknown top-level fields pass."""
    known = RunRequest.model_fields.keys()
    dropped = {k: v for k, v in body.items() if k not in known}
    notes = [f"{printable(k)}: not a field of a request; kept in unknown, not used" for k in sorted(dropped)]
    return {k: v for k, v in body.items() if k in known} | {"schema_version": 2}, dropped, notes


_UPCASTS: Mapping[int, Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any], list[str]]]] = {
    1: _upcast_1_to_2
}


def _canonical_extras(document: dict[str, Any]) -> dict[str, Any]:
    """Read an alias of an extras namespace (`extras.ultralytics`) as its canonical one (`extras.yolo`)."""
    extras = document.get("extras")
    if not isinstance(extras, dict):
        return document
    renamed = dict(extras)
    for trainer in TRAINERS.values():
        for alias in trainer.extras_aliases:
            if alias not in renamed:
                continue
            if trainer.extras in renamed:
                raise Invalid(
                    "invalid_field",
                    FieldError(f"extras.{alias}", f"means the same as extras.{trainer.extras}; give only the latter"),
                )
            renamed[trainer.extras] = renamed.pop(alias)
    return document | {"extras": renamed}


def _fit_registry(request: RunRequest) -> tuple[RunRequest, list[str]]:
    trainer = TRAINERS.get(request.trainer)
    if trainer is None:
        raise _illegal("trainer", request.trainer, TRAINERS, "is not a trainer")
    if request.task_type not in trainer.metrics:
        raise _illegal("task_type", request.task_type, trainer.metrics, f"is nothing that {trainer.name} trains")
    metrics = trainer.metrics[request.task_type]
    if request.metric is not None and request.metric not in metrics:
        raise _illegal("metric", request.metric, metrics, f"does not fit {trainer.name} {request.task_type}")
    if request.dataset.type not in trainer.dataset_types:
        raise _illegal("dataset.type", request.dataset.type, trainer.dataset_types, f"is nothing {trainer.name} reads")
    unknown = sorted(set(request.extras) - EXTRAS_NAMESPACES)
    if unknown:
        raise _illegal(f"extras.{printable(unknown[0])}", unknown[0], EXTRAS_NAMESPACES, "is no trainer's namespace")
    if request.metric is None:
        request = request.model_copy(update={"metric": metrics[0]})
    return request, _warnings(request, trainer)


def _warnings(request: RunRequest, trainer: Trainer) -> list[str]:
    notes = []
    if request.group_key and request.split.method == "row_shuffle":
        notes.append("group_key: not used by split.method row_shuffle; send group_shuffle to keep groups together")
    notes += [
        f"extras.{other}: belongs to another trainer than {trainer.name}; not used"
        for other in sorted(set(request.extras) - {trainer.extras})
    ]
    own = request.extras.get(trainer.extras, {})
    if own.get("mode") == "timeseries":
        notes.append("split: not used by a time series, whose last part in time is held out")
    return notes


def _illegal(path: str, value: str, legal: Iterable[str], what: str) -> Invalid:
    return Invalid(
        "invalid_field", FieldError(path, f"'{printable(value, 40)}' {what}; use one of {', '.join(sorted(legal))}")
    )


def sentences(errors: Iterable[ErrorDetails], *, of: str = "a request") -> list[FieldError]:
    """pydantic's errors as ours, at most 20 and a count of the rest; `of` names the document."""
    found = [_sentence(error, of) for error in errors]
    if len(found) > _MAX_ERRORS:
        found = [*found[:_MAX_ERRORS], FieldError("", f"and {len(found) - _MAX_ERRORS} more wrong fields")]
    return found


def _sentence(error: ErrorDetails, of: str) -> FieldError:
    path = ".".join(printable(part) for part in error["loc"])
    match error["type"]:
        case "extra_forbidden":
            name = str(error["loc"][-1])
            if len(error["loc"]) == 1 and name in SERVER_OWNED:
                return FieldError(path, f"is set by Trainyard, not by {of}; remove it")
            return FieldError(path, f"is not a field of {of}; remove it")
        case "missing":
            return FieldError(path, "is missing; it is required")
        case "value_error":
            text = error["msg"].removeprefix("Value error, ")
            named = _FIELD_FIRST.match(text)
            if named is None:
                return FieldError(path, text)
            return FieldError(f"{path}.{named[1]}" if path else named[1], text[named.end() :])
        case "tuple_type":
            return FieldError(path, "is not a list; send one, with its items in brackets")
        case "model_type" | "model_attributes_type" | "dict_type":
            return FieldError(path, "is not a JSON object; send one, in braces")
        case "string_pattern_mismatch":
            return FieldError(path, "is not an id as Trainyard writes them: a UUID in lower case")
        case _:
            message = error["msg"]
            return FieldError(path, message[0].lower() + message[1:])
