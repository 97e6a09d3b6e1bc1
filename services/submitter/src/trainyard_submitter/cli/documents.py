"""A request from a file or from standard input, JSON or YAML, refused in one sentence when it is anything else."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any, BinaryIO

from trainyard_schemas.codec import MAX_BYTES, decode_object, encode, printable
from trainyard_schemas.errors import ContractError, FieldError
from trainyard_submitter.errors import InvalidRequest

STDIN = "-"
_YAML_SUFFIXES = (".yaml", ".yml")


class FileUnusable(Exception):
    """The named file cannot be read: a usage error."""

    exit_code = 2


def read_request(name: str) -> dict[str, Any]:
    """The object in the file `name`, or on standard input for `-`.

    A name that ends in .yaml or .yml is YAML, .json is JSON; of anything else, what begins with `{` is JSON.

    Raises:
        InvalidRequest: too large, not UTF-8, more than one document, duplicate keys, and the like.
        FileUnusable: there is no such file, or it may not be read.
    """
    shown = "standard input" if name == STDIN else printable(name, 200)
    value = _bytes_of(name)
    try:
        return _decode(value, is_yaml=_is_yaml(name, value))
    except ContractError as error:
        first = error.errors[0]
        path = f"{shown}: {first.path}" if first.path else shown
        raise InvalidRequest(error.detail, (FieldError(path, first.message), *error.errors[1:])) from None


def _decode(value: bytes, *, is_yaml: bool) -> dict[str, Any]:
    if not is_yaml:
        return decode_object(value)
    from trainyard_submitter.cli.yaml_reader import decode_yaml

    decode_object(b"{}" if value.strip() else value)  # an empty document is refused in the same words
    if value.startswith(b"\xef\xbb\xbf"):
        decode_object(value)
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return decode_object(value)
    document = decode_yaml(text)
    if not isinstance(document, dict):
        kind = "list" if isinstance(document, list) else "single value"
        raise ContractError("not_an_object", FieldError("", f"the document is a {kind}; send one object with fields"))
    return decode_object(encode(document))


def _is_yaml(name: str, value: bytes) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix in _YAML_SUFFIXES:
        return True
    return suffix != ".json" and not value.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))


def _bytes_of(name: str) -> bytes:
    shown = printable(name, 200)
    try:
        if name == STDIN:
            if sys.stdin is None:
                raise FileUnusable("standard input is closed; name a file, or write the request to standard input")
            return _limited(sys.stdin.buffer)
        path = Path(name)
        if stat.S_ISDIR(path.stat().st_mode):
            raise FileUnusable(f"{shown} is a folder; name a file with one request, or - for standard input")
        with path.open("rb") as file:
            return _limited(file)
    except FileNotFoundError:
        raise FileUnusable(f"there is no file {shown}; name a JSON or YAML file, or - for standard input") from None
    except OSError as error:
        raise FileUnusable(f"{shown} cannot be read: {error.strerror or error}") from error


def _limited(file: BinaryIO) -> bytes:
    """One byte more than is allowed at most, so that a file without end is refused like any other large one."""
    return file.read(MAX_BYTES + 1)
