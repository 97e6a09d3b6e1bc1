"""Strict JSON at the door: one document, UTF-8, within limits, with no ambiguity.

Refused here, before any field is looked at: an empty or missing value, a byte order mark, bytes that are not UTF-8,
a second document or trailing bytes, duplicate keys, NaN and Infinity, numbers beyond 64 bits, lone surrogates, more
than 64 levels, more than 10,000 values, more than 512 KiB.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from trainyard_schemas.errors import FieldError, Malformed
from trainyard_schemas.redaction import redacted_text

MAX_BYTES = 512 * 1024
MAX_DEPTH = 64
MAX_VALUES = 10_000
_MAX_INT_DIGITS = 19
_INT64_MAX = 2**63 - 1
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # an unterminated one reaches to the end
_DEEP = re.compile(rf"(?:[\[{{][\s:]*+){{{MAX_DEPTH + 1}}}")
_LOOK_AHEAD = 4_096  # characters: that much further a password's end is looked for, beyond which a text is cut
_DEEP_WITHIN = 4_096  # characters: where what opens so much nests deeply, it begins so


def _refuse(detail: str, message: str, path: str = "") -> NoReturn:
    raise Malformed(detail, FieldError(path, message))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                _refuse("duplicate_key", "this key stands twice in one object; keep one of them", printable(key))
            seen.add(key)
    return result


@dataclass(frozen=True, slots=True)
class _Unfit:
    """Stands for a number that is refused, until it is known where it stands."""

    detail: str
    message: str


_BEYOND_INT = _Unfit("number_out_of_range", "is a whole number beyond 64 bits; send a smaller one")
_BEYOND_FLOAT = _Unfit("number_out_of_range", "is beyond what a 64-bit float can hold; send a smaller one")


def _parse_int(text: str) -> int | _Unfit:
    if len(text.lstrip("-")) > _MAX_INT_DIGITS or abs(int(text)) > _INT64_MAX:
        return _BEYOND_INT
    return int(text)


def _parse_float(text: str) -> float | _Unfit:
    value = float(text)
    return value if math.isfinite(value) else _BEYOND_FLOAT


def _parse_constant(text: str) -> _Unfit:
    return _Unfit("not_json", f"is {text}, which is not JSON; leave the field out or send a number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates,
    parse_int=_parse_int,
    parse_float=_parse_float,
    parse_constant=_parse_constant,
)


def printable(text: object, limit: int = 80) -> str:
    """`text` cut to `limit` characters, without secrets, and `?` for what a terminal or a log could stumble over."""
    shown = redacted_text(str(text)[: limit + _LOOK_AHEAD])[: limit + 1]
    shown = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "?" for c in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def decode_object(value: bytes | None, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The one JSON object that `value` holds.

    Raises:
        Malformed: for every kind that the module's docstring names, with a `detail` code of its own.
    """
    if value is None:
        _refuse("tombstone", "the record has no value; send one JSON object as its value")
    if len(value) > max_bytes:
        _refuse("too_large", f"the body has {len(value):,} bytes, the limit is {max_bytes:,}")
    if not value.strip():
        _refuse("empty", "the body is empty; send one JSON object")
    if value.startswith(b"\xef\xbb\xbf"):
        _refuse("byte_order_mark", "the body starts with a byte order mark; send plain UTF-8 without it")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse("not_utf8", f"the body is not UTF-8 (byte {error.start}); encode it as UTF-8")
    text = text.strip(" \t\r\n")
    _refuse_many_values(text)
    try:
        document, end = _DECODER.raw_decode(text)
    except RecursionError:
        _refuse("too_deep", f"the body nests deeper than {MAX_DEPTH} levels")
    except json.JSONDecodeError as error:
        _refuse("not_json", f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    if end != len(text):
        _refuse("trailing_bytes", f"after the first JSON document there is more (character {end}); send one document")
    if not isinstance(document, dict):
        _refuse("not_an_object", f"the body is a JSON {_kind(document)}; send one object")
    _check_limits(document)
    return document


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "list"
    if isinstance(value, str):
        return "string"
    return "null" if value is None else "number or boolean"


def _refuse_many_values(text: str) -> None:
    """Refuse what is sure to hold too many values before it is parsed: parsing 512 KiB of them takes 60 ms.

    Every comma outside of strings parts two values, and every bracket opens one.
    """
    if _most_values(text) <= MAX_VALUES:
        return
    outside = _STRING.sub("", text)
    if _most_values(outside) <= MAX_VALUES:
        return
    if _DEEP.search(outside, 0, _DEEP_WITHIN):
        _refuse("too_deep", f"the body nests deeper than {MAX_DEPTH} levels")
    _refuse("too_many_values", f"the body holds more than {MAX_VALUES:,} values")


def _most_values(text: str) -> int:
    return max(text.count(","), text.count("[") + text.count("{"))


def _check_limits(document: dict[str, Any]) -> None:
    pending: list[tuple[Any, int]] = [(document, 1)]
    values = 0
    while pending:
        value, depth = pending.pop()
        values += 1
        if values > MAX_VALUES:
            _refuse("too_many_values", f"the body holds more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            _refuse("too_deep", f"the body nests deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for key, item in value.items():
                if _is_torn(key):
                    _refuse(
                        "lone_surrogate",
                        "is a name with half of a surrogate pair; send whole characters",
                        printable(key),
                    )
                pending.append((item, depth + 1))
        elif isinstance(value, list):
            pending.extend((item, depth + 1) for item in value)
        elif isinstance(value, str):
            if _is_torn(value):
                message = "holds half of a surrogate pair; send whole characters"
                _refuse("lone_surrogate", message, _path_to(value, document))
        elif isinstance(value, _Unfit):
            _refuse(value.detail, value.message, _path_to(value, document))


def _is_torn(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _path_to(wanted: object, document: dict[str, Any]) -> str:
    """Where in a document a value stands: names and indices, with dots between them."""
    pending: list[tuple[tuple[object, ...], Any]] = [((), document)]
    while pending:
        path, value = pending.pop()
        if value is wanted:
            return ".".join(printable(part) for part in path)
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        pending.extend(((*path, name), item) for name, item in items)
    return ""


def encode(document: Mapping[str, Any]) -> bytes:
    """One line of compact UTF-8 JSON. Raises ValueError for NaN and Infinity."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def canonical(document: Mapping[str, Any]) -> bytes:
    """Bytes that are equal when two documents are: keys sorted, compact, UTF-8. For digests, not for the wire."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()
