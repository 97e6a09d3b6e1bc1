"""Takes secrets out of what is kept of a refused record. Pure; works on bytes that may be no JSON and no text.

A dead letter keeps a record byte for byte, but for what opens a door: a user and password before a host, a value of a
query that signs or authorises, and headers that carry credentials. Stars of fixed length stand in their place, so that
not even the length is told, and a header says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Headers = tuple[tuple[str, bytes | None], ...]

STARS = b"***"
_USER_INFO = re.compile(rb"(://|:\\?/\\?/)[^\s\"'<>/\\@]{1,512}@")
_SECRET = rb"""
    x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|x-goog-credential|awsaccesskeyid|signature
    |sig|token|access_token|refresh_token|id_token|apikey|api_key|key|password|passwd|secret|client_secret
"""
_QUERY = re.compile(rb"(?xi) ([?&] (?: " + _SECRET + rb" ) =) [^\s\"'<>&\#\\]+")
_FIELD = re.compile(
    rb'(?xi) ("(?: password|passwd|secret|secret_key|client_secret|access_key|api_key|apikey|token|access_token'
    rb'|aws_secret_access_key|authorization )" \s* : \s* ") (?: [^"\\] | \\. )+ (?=")'
)
_HEADERS = re.compile(
    r"(?i)^(authorization|proxy-authorization|cookie|x-api-key|.*(token|secret|password|credential).*)$"
)


def redacted(value: bytes | None) -> bytes | None:
    """The bytes with their secrets taken out; the same object where there is none."""
    if value is None:
        return None
    found = _USER_INFO.sub(rb"\1" + STARS + b"@", value)
    found = _QUERY.sub(rb"\1" + STARS, found)
    found = _FIELD.sub(rb"\1" + STARS, found)
    return value if found == value else found


def redacted_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """The headers with the values of those taken out that carry credentials."""
    return tuple((name, STARS if value and _HEADERS.match(name) else redacted(value)) for name, value in headers)
