"""Texts that a request may hold: names that a person reads, and URIs that name data."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated
from urllib.parse import unquote_plus, urlsplit

from pydantic import AfterValidator, Field

from trainyard_schemas.secret_names import is_secret

_URI_SCHEMES = ("", "file", "s3", "http", "https")
_IPV6_HOST = re.compile(r"^[a-z0-9]+://\[[0-9a-f:.]*\]", re.IGNORECASE)
_ASSIGNED = re.compile(r"[?&;#]\s*+([^?&;#=]++)=")
_ESCAPE_DEPTH = 3


def _plain(text: str) -> str:
    """Refuse what a terminal, a log or a page could stumble over: control and direction marks, surrogates."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise ValueError(f"holds the control character U+{ord(character):04X}; use printable characters only")
    if text != text.strip():
        raise ValueError("starts or ends with white space; remove it")
    return text


def _no_markup(text: str) -> str:
    if "<" in text or ">" in text:
        raise ValueError("holds '<' or '>'; use letters, digits, spaces and plain punctuation")
    return text


def _unescaped(text: str) -> str:
    for _ in range(_ESCAPE_DEPTH):
        text = unquote_plus(text)
    return text


def _safe_uri(uri: str) -> str:
    """Refuse URIs that hold credentials, chained or unknown schemes. The value is never repeated in a message."""
    _plain(uri)
    if "::" in _IPV6_HOST.sub("//", uri, count=1):
        raise ValueError("chains several file systems with '::'; name one object")
    try:
        parts = urlsplit(uri)
        host, port_ok = parts.hostname, parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError("is not a valid URI; check its host and brackets") from error
    if parts.scheme.lower() not in _URI_SCHEMES:
        raise ValueError("has an unknown scheme; use a path, file:, s3://, http:// or https://")
    if "@" in _unescaped(parts.netloc):
        raise ValueError("holds credentials; register them with the worker and send the URI without them")
    if any(is_secret(name, in_query=True) for name in _ASSIGNED.findall(_unescaped(uri))):
        raise ValueError(
            "holds a signature or a token in its query or fragment; register credentials with the worker instead"
        )
    if parts.scheme.lower() in ("s3", "http", "https") and (not host or not port_ok):
        raise ValueError("names no host or bucket; write it like s3://bucket/key or https://host/path")
    if parts.scheme.lower() == "file" and parts.netloc not in ("", "localhost"):
        raise ValueError("names another host; a file: URI is local, like file:///data/set.csv")
    return uri


Name = Annotated[str, Field(min_length=3, max_length=256), AfterValidator(_plain), AfterValidator(_no_markup)]
"""What a person reads in a list: 3 to 256 printable characters (ClearML refuses names under 3)."""

Tag = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain), AfterValidator(_no_markup)]
"""A tag or a queue's name: 1 to 128 printable characters."""

Line = Annotated[str, Field(max_length=2_000), AfterValidator(_plain)]
"""A sentence of a person, on one line; may be empty."""

RUN_ID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
RunId = Annotated[str, Field(pattern=RUN_ID_PATTERN)]
"""A run's id, as it is written everywhere: a UUID in lower case."""

ColumnName = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
"""A column of a table."""

RelativePath = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
"""A path inside a dataset; the worker checks that it stays inside."""

Key = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
"""An idempotency key or a reference: 1 to 256 printable characters."""

DataUri = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_safe_uri)]
"""Where data is: a path, `file:`, `s3://`, `http://` or `https://`; without credentials."""
