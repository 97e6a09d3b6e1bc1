"""Takes secrets out of what is kept or said of a refused record. Pure; works on bytes that may be no JSON and no text.

A dead letter keeps a record byte for byte, but for what opens a door: a user and password before a host, and what
stands under a name of `secret_names` in a query, in a field or in a line of YAML, and headers that carry credentials.
Stars of fixed length stand in their place, so that not even the length is told, and a header says so. What hid a secret
(JSON's and percent escapes, the zero bytes of UTF-16) goes with it. JSON stays JSON. Time is linear in the length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from trainyard_schemas.secret_names import is_secret

Headers = tuple[tuple[str, bytes | None], ...]

STARS = b"***"
_ESCAPE_DEPTH = 3
_ESCAPED = re.compile(rb"(?i)(?<!\\)\\++(?:/|u00([2-7][0-9a-f]))|%([2-7][0-9a-f])")
_STAYS_ESCAPED = b' "\\\x7f'
_BEFORE_HOST = rb"(?i)(?:(?<![\w.:])//++|:(?:/|\\\\)++|(?<![a-z0-9])(?:https?|s3):(?:/|\\\\)*+)"
_FROM_URI = re.compile(_BEFORE_HOST + rb'(?:[^"\\\r\n]++|\\.)*+')
_URI = re.compile(_BEFORE_HOST + rb"(\S*+)")
_PASSWORD = re.compile(rb"[^\s/@:\[\]]*+:(?=\S)(?!\d{1,5}+(?:[/?#\s]|\Z))")
_DELIMITERS = (b"?", b"&", b";", b"#")
_BARE = rb"""(?!(?:true|false|null)\b)[^\s"'\\,\[\]{}]++"""
_ASSIGNED = (
    re.compile(rb"""(?:([?&;#])|(?<![\w/-]))([\w.-]{1,128}+)=(?!\*\*\*(?:[\s"'&#;]|\Z))"""),
    re.compile(rb'(?:[^\s"&#\\]|\\.)++'),
    b"",
)
_FIELDS = tuple(
    (re.compile(rb"(%b)([\w.-]{1,128}+)%b\s*+:\s*+" % (quote, quote)), re.compile(b"(?s)%b|%b" % (text, _BARE)), shown)
    for shown, quote, text in (
        (b'"', b'"', rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'),
        (rb"\"", rb"\\\"", rb'\\"(?:[^"\\]|\\\\\\"|\\[^"])*+(?:\\")?'),  # JSON within a string of JSON
        (b"'", b"'", rb"""'[^'"\r\n]*+'?"""),
    )
)
_LINE = (
    re.compile(rb"(?m)^([ \t{\xbb\xbf\xef\xfe\xff-]*+)([\w.-]{1,128}+)[ \t]*+[:=][ \t]*+"),  # also after a BOM
    re.compile(rb"[|>][^\n]*+(?:\n[ \t]++[^\n]*+)*+|[^\s][^\r\n]*+"),
    b"",
)
_SUSPECT = re.compile(r"""[@=%\\]|["']\s*+:""")
_HEADERS = re.compile(
    r"(?i)^(authorization|proxy-authorization|cookie|x-api-key|.*(token|secret|password|credential).*)$"
)


def redacted(value: bytes | None) -> bytes | None:
    """The bytes with their secrets taken out; the same object where there is none."""
    if value is None:
        return None
    seen = _seen_through(value.replace(b"\0", b""))
    found = _without_values(_without_secrets(seen), *_LINE)
    return value if found == seen else found


def redacted_text(text: str) -> str:
    """What is said to a person, without the secrets in URIs and assignments that it quotes."""
    if not _SUSPECT.search(text):
        return text
    seen = _seen_through(text.encode("utf-8", "surrogatepass"))
    found = _without_secrets(seen)
    return text if found == seen else found.decode("utf-8", "replace")


def redacted_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """The headers with the values of those taken out that carry credentials."""
    return tuple((name, STARS if value and _HEADERS.match(name) else redacted(value)) for name, value in headers)


def _seen_through(value: bytes) -> bytes:
    """The bytes as whoever reads them sees them: printable ASCII that was escaped stands as itself."""
    for _ in range(_ESCAPE_DEPTH):
        plain = _ESCAPED.sub(_unescaped, value)
        if plain == value:
            break
        value = plain
    return value


def _unescaped(match: re.Match[bytes]) -> bytes:
    digits = match[1] or match[2]
    if digits is None:
        return b"/"
    plain = bytes((int(digits, 16),))
    return match[0] if plain in _STAYS_ESCAPED else plain


def _without_secrets(value: bytes) -> bytes:
    found = _FROM_URI.sub(_without_users, value) if b"@" in value else value
    for kind in (_ASSIGNED, *_FIELDS):
        found = _without_values(found, *kind)
    return found


def _without_users(match: re.Match[bytes]) -> bytes:
    """A text from its first URI on, without what stands before the hosts of its URIs."""
    text = match[0]
    last_at = text.rfind(b"@")
    kept, done = [], 0
    while (uri := _URI.search(text, done)) and uri.start(1) < last_at:
        begin = uri.start(1)
        at = last_at if _PASSWORD.match(text, begin, last_at) else begin + _end_of_user(uri[1])
        kept.append(text[done:begin])
        done = uri.end()
        if at > begin:
            kept.append(STARS)
            begin, done = at, max(at, done)
        kept.append(text[begin:done])
    return b"".join((*kept, text[done:]))


def _end_of_user(word: bytes) -> int:
    """Where the `@` stands that ends a user without a space, in what follows a URI's scheme; 0 or less if none does."""
    at = word.rfind(b"@")
    if b":" in word[: max(at, 0)]:
        return at
    return re.split(rb"[/\\]", word, maxsplit=1)[0].rfind(b"@")


def _without_values(value: bytes, names: re.Pattern[bytes], what_follows: re.Pattern[bytes], quote: bytes) -> bytes:
    """The bytes with stars for what follows a secret's name, which is the second group of `names`."""
    kept, done = [], 0
    for name in names.finditer(value):
        if name.start() < done or not is_secret(name[2].decode(), in_query=name[1] in _DELIMITERS):
            continue
        if found := what_follows.match(value, name.end()):
            kept += [value[done : name.end()], quote + STARS + quote]
            done = found.end()
    return b"".join((*kept, value[done:]))
