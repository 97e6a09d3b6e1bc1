"""What a request's `dataset` means: where its bytes are and what they must be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from trainyard_schemas.content_address import claimed_sha256, content_path
from trainyard_schemas.text import DataUri
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.data.addresses import AddressRefused, WebAddress, web_address
from trainyard_trainer_worker.spec import AttemptError, Detail, invalid_dataset, invalid_request

_URI: Final = TypeAdapter[str](DataUri)
_BUCKET: Final = re.compile(r"^(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


@dataclass(frozen=True, slots=True)
class OnFileServer:
    """A file of ClearML's file server: its path there, and the SHA-256 that the path claims, if it does."""

    path: str
    sha256: str | None
    location: str


@dataclass(frozen=True, slots=True)
class OnWeb:
    """A public web address. `sha256`: what its path claims."""

    address: WebAddress
    sha256: str | None = None

    @property
    def location(self) -> str:
        """The address without its query."""
        return self.address.location


@dataclass(frozen=True, slots=True)
class InBucket:
    """An object of the worker's S3."""

    bucket: str
    key: str

    @property
    def location(self) -> str:
        """The object's URI."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class ClearMLRef:
    """A ClearML dataset, by `id` or by the other three, and the file inside that is meant."""

    id: str | None = None
    name: str = ""
    project: str = ""
    version: str = ""
    path: str | None = None


Object = OnFileServer | OnWeb | InBucket
Source = Object | ClearMLRef


def plan(dataset: Mapping[str, Any], file_servers: Sequence[WebAddress]) -> Source | None:
    """Where the data is; None for what the training child reads by itself (a local path).

    `file_servers`: the configured file server, then other addresses under which clients know it. Raises AttemptError.
    """
    ref = dataset.get("clearml")
    if isinstance(ref, Mapping):
        path = dataset.get("path")
        values = {name: ref.get(name) for name in ("id", "name", "project", "version")}
        return ClearMLRef(
            id=values["id"] or None,
            name=str(values["name"] or ""),
            project=str(values["project"] or ""),
            version=str(values["version"] or ""),
            path=path if isinstance(path, str) and path else None,
        )
    uri = dataset.get("uri")
    if not isinstance(uri, str) or not uri or urlsplit_scheme(uri) in ("", "file"):
        return None
    return remote_object(uri, "dataset.uri", file_servers)


def urlsplit_scheme(uri: str) -> str:
    """The scheme in lower case, "" for a path."""
    try:
        return urlsplit(uri).scheme.lower()
    except ValueError:
        return "invalid"


def remote_object(uri: str, field: str, file_servers: Sequence[WebAddress]) -> Object:
    """One remote file by its URI, which `field` holds. Raises AttemptError that names the field, never the value."""
    try:
        _URI.validate_python(uri)
    except ValidationError as problem:
        said = problem.errors(include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise invalid_request(Detail.FIELD_INVALID, f"{field} {said}") from None
    scheme = urlsplit_scheme(uri)
    if scheme == "s3":
        return _in_bucket(uri, field)
    if scheme not in ("http", "https"):
        raise AttemptError(
            Reason.DATASET_UNREACHABLE,
            Detail.REMOTE_NOT_FETCHED,
            f"{field} is no http://, https:// or s3:// address; only those are fetched",
        )
    try:
        address = web_address(uri)
    except AddressRefused as refused:
        raise invalid_dataset(Detail.ADDRESS_NOT_ALLOWED, f"{field} {refused}") from None
    path = unquote(address.target.partition("?")[0])
    sha256 = claimed_sha256(path)
    for server in file_servers:
        prefix = server.target.rstrip("/")
        if address.origin == server.origin and path.startswith(f"{prefix}/"):
            inside = path.removeprefix(prefix).strip("/")
            if ".." in inside.split("/") or not inside:
                raise invalid_dataset(Detail.PATH_NOT_ALLOWED, f"{field} names no file of ClearML's file server")
            return OnFileServer(content_path(sha256) if sha256 else inside, sha256, address.location)
    return OnWeb(address, sha256)


def _in_bucket(uri: str, field: str) -> InBucket:
    parts = urlsplit(uri)
    bucket, key = parts.netloc, unquote(parts.path.lstrip("/"))
    if parts.query or parts.fragment:
        raise invalid_dataset(Detail.FIELD_INVALID, f"{field} has a query or fragment; write it like s3://bucket/key")
    if not _BUCKET.match(bucket):
        raise invalid_dataset(
            Detail.FIELD_INVALID,
            f"{field} names no S3 bucket: 3 to 63 lower-case letters, digits, dots and hyphens; the worker's "
            "AWS_ENDPOINT_URL says which S3",
        )
    if not key or key.endswith("/"):
        raise invalid_dataset(Detail.FIELD_INVALID, f"{field} names a folder of {bucket}; name one CSV object")
    if any(part in (".", "..", "") for part in key.split("/")):
        raise invalid_dataset(Detail.FIELD_INVALID, f"{field} has empty, '.' or '..' parts in its key")
    return InBucket(bucket, key)
