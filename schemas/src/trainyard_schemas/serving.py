"""What clearml-serving publishes about requests to deployed models, as it is really sent.

Topic `clearml_inference_stats`: no key, no headers; the value is a UTF-8 JSON list of flat rows, plain or compressed
with lz4. A row is one request, or one of a sample. What is wrong is never a reason to stop: see `RejectKind`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

MAX_URL_CHARACTERS: Final = 200
MAX_LATENCY_S: Final = 1_000_000.0
MAX_COUNT: Final = 1_000_000
MAX_ERROR_CHARACTERS: Final = 60
MAX_LIST_VALUES: Final = 1_000
"""How many observations one custom value may hold as a list."""

OVERFLOW: Final = "(other)"
"""The endpoint under which requests are counted that a full table of endpoints has no room for."""


class RejectKind(StrEnum):
    """Why a message, a row or a value of a row was not counted. A reader counts each of them by this word."""

    MESSAGE_EMPTY = "message_empty"
    MESSAGE_NOT_JSON = "message_not_json"
    MESSAGE_NOT_A_LIST = "message_not_a_list"
    ROW_NOT_AN_OBJECT = "row_not_an_object"
    URL_MISSING = "url_missing"
    URL_INVALID = "url_invalid"
    LATENCY_INVALID = "latency_invalid"
    COUNT_INVALID = "count_invalid"
    STATUS_INVALID = "status_invalid"
    ERROR_INVALID = "error_invalid"
    METRIC_INVALID = "metric_invalid"
    ENUM_VALUE_UNKNOWN = "enum_value_unknown"


class ServingRow(BaseModel):
    """One row. Further fields are custom values, counted where `metric_logging` names them and ignored otherwise.

    `_status` and `_error` are Trainyard's own and optional: clearml-serving reports successes only, and a sender that
    sets one of them reports a failure. A failure may come without `_latency`; a success may not.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, title="ServingRow")
    __pydantic_extra__: dict[str, JsonValue]

    url: Annotated[str, Field(alias="_url", min_length=1, max_length=MAX_URL_CHARACTERS)]
    """`endpoint[/version]` as it was resolved, without control characters."""
    latency: Annotated[float | None, Field(alias="_latency", ge=0, le=MAX_LATENCY_S)] = None
    """Seconds of preprocess, process and postprocess."""
    count: Annotated[int, Field(alias="_count", ge=1, le=MAX_COUNT)] = 1
    """How many requests the row stands for; clearml-serving sends `int(1/frequency)`."""
    status: Annotated[int | None, Field(alias="_status", ge=100, le=599)] = None
    """The HTTP status that the client got; from 400 on the row is a failure."""
    error: Annotated[str | None, Field(alias="_error", min_length=1, max_length=MAX_ERROR_CHARACTERS)] = None
    """The name of the error, such as an exception's class; a row that has one is a failure."""


class ServingMessage(RootModel[list[ServingRow]]):
    """The value of one record: the rows that a serving process has gathered, ten seconds' worth or fewer."""

    model_config = ConfigDict(title="ServingMessage")
