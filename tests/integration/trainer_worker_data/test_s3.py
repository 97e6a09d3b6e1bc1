"""Objects of a real S3 interface (moto's server), read with obstore."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker_data.fetching import Fetching, failed, fetched
from tests.integration.trainer_worker_data.web_server import Answer, web_server
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Detail

CSV = b"x,y\n1,2\n" * 100_000
KEYS: dict[str, Any] = {"s3_access_key": "canary-access", "s3_secret_key": "canary-secret"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def put(endpoint: str, bucket: str, key: str, content: bytes) -> None:
    keys = {"access_key_id": "any", "secret_access_key": "any", "region": "us-east-1", "endpoint": endpoint}
    store = S3Store(bucket, config=keys, client_options={"allow_http": True})  # type: ignore[arg-type]
    obstore.put(store, key, content)


def ask(url: str, **headers: str) -> None:
    """One call of the owner that obstore has no function for."""
    authorization = {"Authorization": "AWS4-HMAC-SHA256 Credential=any/20250101/us-east-1/s3/aws4_request"}
    request = urllib.request.Request(url, method="PUT", headers={**headers, **authorization})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.fixture
def bucket(endpoint: str) -> str:
    ask(f"{endpoint}/data-sets")
    put(endpoint, "data-sets", "a set/train.csv", CSV)
    return "data-sets"


def test_an_object_is_read_and_the_next_time_it_comes_from_the_cache(
    endpoint: str, bucket: str, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    dataset = {"uri": f"s3://{bucket}/a%20set/train.csv"}
    found = fetched(fetching.run(clearml_server, dataset, s3_endpoint=endpoint, **KEYS))
    assert Path(found.path).read_bytes() == CSV
    assert found.sha256 == hashlib.sha256(CSV).hexdigest()
    assert found.location == f"s3://{bucket}/a set/train.csv"
    before = _blob(fetching, found.sha256).stat()
    again = fetched(fetching.run(clearml_server, dataset, s3_endpoint=endpoint, **KEYS))
    assert again.sha256 == found.sha256
    after = _blob(fetching, found.sha256).stat()
    assert after.st_ino == before.st_ino, "it was fetched anew"
    put(endpoint, bucket, "a set/train.csv", b"x,y\n3,4\n")
    changed = fetched(fetching.run(clearml_server, dataset, s3_endpoint=endpoint, **KEYS))
    assert Path(changed.path).read_bytes() == b"x,y\n3,4\n"


def _blob(fetching: Fetching, sha256: str) -> Path:
    return fetching.folder / "cache" / "blobs" / sha256


def test_a_public_bucket_is_read_without_keys(
    endpoint: str, bucket: str, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    dataset = {"uri": f"s3://{bucket}/a%20set/train.csv"}
    closed = failed(fetching.run(clearml_server, dataset, s3_endpoint=endpoint, s3_anonymous=True))
    assert (closed.detail, "TRAINYARD_S3_ANONYMOUS" in closed.message) == (Detail.ACCESS_DENIED, True)
    ask(f"{endpoint}/{bucket}/a%20set/train.csv?acl", **{"x-amz-acl": "public-read"})
    found = fetching.run(clearml_server, dataset, s3_endpoint=endpoint, s3_anonymous=True)
    assert fetched(found).size_bytes == len(CSV)


@pytest.mark.parametrize(
    ("uri", "settings", "detail", "said"),
    [
        ("s3://data-sets/none.csv", KEYS, Detail.FILE_MISSING, "no such object"),
        ("s3://no-such-bucket/train.csv", KEYS, Detail.BUCKET_MISSING, "AWS_ENDPOINT_URL"),
        ("s3://data-sets/train.csv", {}, Detail.CREDENTIALS_MISSING, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (
            "s3://data-sets/train.csv",
            {"s3_access_key": "canary-access"},
            Detail.CREDENTIALS_MISSING,
            "set AWS_SECRET_ACCESS_KEY for it",
        ),
    ],
)
def test_what_is_missing_is_named(
    uri: str,
    settings: Mapping[str, Any],
    detail: Detail,
    said: str,
    endpoint: str,
    bucket: str,
    fetching: Fetching,
    clearml_server: ClearMLServer,
) -> None:
    refused = failed(fetching.run(clearml_server, {"uri": uri}, s3_endpoint=endpoint, **settings))
    assert (refused.reason, refused.detail) == (Reason.DATASET_UNREACHABLE, detail)
    assert said in refused.message
    assert "canary" not in refused.message


def test_a_large_object_is_refused_before_it_is_read(
    endpoint: str, bucket: str, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    put(endpoint, bucket, "large.csv", bytes(200_000))
    refused = failed(
        fetching.run(
            clearml_server,
            {"uri": f"s3://{bucket}/large.csv"},
            s3_endpoint=endpoint,
            max_file_bytes=100_000,
            **KEYS,
        )
    )
    assert refused.detail == Detail.TOO_LARGE
    assert fetching.leftovers == []


@pytest.mark.parametrize("status", [403, 401])
def test_keys_that_are_refused_are_named_and_not_shown(
    status: int, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    with web_server() as s3:
        s3.answers["/data-sets/train.csv"] = Answer(b"<Error><Code>AccessDenied</Code></Error>", status=status)
        refused = failed(
            fetching.run(
                clearml_server, {"uri": "s3://data-sets/train.csv"}, s3_endpoint=s3.url("", "127.0.0.1"), **KEYS
            )
        )
    assert (refused.detail, "AWS_ACCESS_KEY_ID" in refused.message) == (Detail.ACCESS_DENIED, True)
    assert "canary" not in refused.message


def test_an_s3_that_does_not_answer_or_speaks_nonsense_is_named(
    fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    uri = {"uri": "s3://data-sets/train.csv"}
    silent = failed(fetching.run(clearml_server, uri, s3_endpoint="http://127.0.0.1:9", stall_timeout_s=0.5, **KEYS))
    assert (silent.reason, silent.detail) == (Reason.DATASET_UNREACHABLE, Detail.CONNECTION_FAILED)
    assert "http://127.0.0.1:9" in silent.message
    with web_server() as s3:
        s3.answers["/data-sets/train.csv"] = Answer(b"<html>", status=500)
        there = s3.url("", "127.0.0.1")
        broken = failed(fetching.run(clearml_server, uri, s3_endpoint=there, stall_timeout_s=0.5, **KEYS))
    assert broken.detail == Detail.CONNECTION_FAILED


def test_a_redirect_of_the_s3_is_followed_without_a_signature(
    fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    with web_server() as s3, web_server() as other:
        s3.answers["/data-sets/train.csv"] = Answer(
            status=307, headers={"Location": other.url("/data-sets/train.csv", "localhost")}
        )
        other.answers["/data-sets/train.csv"] = Answer(
            CSV, headers={"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "ETag": '"a"'}
        )
        outcome = fetching.run(
            clearml_server, {"uri": "s3://data-sets/train.csv"}, s3_endpoint=s3.url("", "127.0.0.1"), **KEYS
        )
    assert fetched(outcome).sha256 == hashlib.sha256(CSV).hexdigest(), "AWS itself redirects so to a bucket's region"
    ((_, headers),) = other.asked
    assert "authorization" not in headers
    assert "canary" not in json.dumps(headers)
