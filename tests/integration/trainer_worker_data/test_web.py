"""Web addresses over real sockets: what is fetched, what is refused, and that nobody else is ever asked."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker_data.certificates import Certificate
from tests.integration.trainer_worker_data.fetching import Fetching, failed, fetched
from tests.integration.trainer_worker_data.web_server import Answer, WebServer, web_server
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Detail

CSV = b"x,y\n1,2\n" * 1000
HERE = {"data.example": ["127.0.0.1"]}
SECRET = "canary-hunter2"


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        server.answers["/a.csv"] = Answer(CSV)
        yield server


def test_a_file_is_fetched_by_name_from_the_resolved_address(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    found = fetching.run(
        clearml_server, {"uri": web.url("/a.csv?v=1")}, resolve=HERE, private_hosts=f"data.example:{web.port}"
    )
    assert failed(found).detail == Detail.FILE_MISSING
    data = fetched(fetching.run(clearml_server, {"uri": web.url("/a.csv")}, resolve=HERE, private_hosts="data.example"))
    assert Path(data.path).read_bytes() == CSV
    assert (data.location, data.sha256) == (web.url("/a.csv"), hashlib.sha256(CSV).hexdigest())
    (path, headers) = web.asked[-1]
    assert path == "/a.csv"
    assert headers["host"] == f"data.example:{web.port}"
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & headers.keys()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "data.example", "[::ffff:127.0.0.1]", "[::1]", "127.1", "0x7f.0.0.1", "2130706433"),
        *("0177.0.0.1", "[64:ff9b::7f00:1]", "①②⑦.0.0.1", "0.0.0.0", "169.254.169.254", "metadata.google.internal"),
        *("[fd00:ec2::254]", "[::]", "[2002:7f00:1::]"),
    ],
)
def test_a_private_address_is_refused_in_every_spelling_and_never_asked(
    host: str, web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    names = {**HERE, "localhost": ["127.0.0.1", "::1"], "metadata.google.internal": ["169.254.169.254"]}
    refused = failed(fetching.run(clearml_server, {"uri": web.url("/a.csv", host)}, resolve=names))
    assert refused.reason in (Reason.DATASET_UNREACHABLE, Reason.INVALID_DATASET)
    assert refused.detail == Detail.ADDRESS_NOT_ALLOWED
    assert web.asked == []


def test_one_private_address_among_public_ones_refuses_the_host(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    mixed = {"data.example": ["1.1.1.1", "127.0.0.1"]}
    refused = failed(fetching.run(clearml_server, {"uri": web.url("/a.csv")}, resolve=mixed))
    assert refused.detail == Detail.ADDRESS_NOT_ALLOWED
    assert "TRAINYARD_DATA_PRIVATE_HOSTS" in refused.message
    assert web.asked == []


def test_a_name_that_changes_is_resolved_once_and_connected_to_where_it_was_judged(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    """Were the name resolved again to connect, the second answer, a private one, would be asked."""
    answers = iter([["198.51.100.7"]] + [["127.0.0.1"]] * 10)
    web.answers["/a.csv"] = Answer(CSV)
    first = failed(fetching.run(clearml_server, {"uri": web.url("/a.csv")}, resolve=lambda _: next(answers)))
    assert first.detail == Detail.ADDRESS_NOT_ALLOWED  # a documentation network: not public either
    assert fetching.asked == ["data.example"]
    fetching.asked.clear()
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.3"]])
    fetched(
        fetching.run(
            clearml_server,
            {"uri": web.url("/a.csv")},
            resolve=lambda _: next(answers),
            private_hosts="data.example",
        )
    )
    assert fetching.asked == ["data.example"]


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1:{port}/a.csv", "http://internal.example:{port}/a.csv", "//internal.example:{port}/a.csv"),
        *("http://[::1]:{port}/a.csv", "http://2130706433:{port}/a.csv", "file:///etc/passwd", "ftp://x/a", "s3://b/k"),
        *(
            "http://u:canary-hunter2@data.example:{port}/a.csv",
            "http://[canary-hunter2/",
            "http://169.254.169.254/latest/",
        ),
    ],
)
def test_a_redirect_is_judged_like_the_first_address(
    location: str, web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    web.answers["/moved.csv"] = Answer(status=302, headers={"Location": location.format(port=web.port)})
    names = {**HERE, "internal.example": ["127.0.0.1"]}
    refused = failed(
        fetching.run(
            clearml_server,
            {"uri": web.url("/moved.csv")},
            resolve=names,
            private_hosts=f"data.example:{web.port}",
        )
    )
    assert (refused.reason, refused.detail) == (Reason.DATASET_UNREACHABLE, Detail.ADDRESS_NOT_ALLOWED)
    assert SECRET not in refused.message
    assert [path for path, _ in web.asked] == ["/moved.csv"]


def test_a_redirect_to_a_good_address_is_followed_and_its_signature_is_kept_to_itself(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    web.answers["/moved.csv"] = Answer(status=307, headers={"Location": f"/signed.csv?X-Amz-Signature={SECRET}"})
    web.answers[f"/signed.csv?X-Amz-Signature={SECRET}"] = Answer(CSV)
    data = fetched(
        fetching.run(clearml_server, {"uri": web.url("/moved.csv")}, resolve=HERE, private_hosts="data.example")
    )
    assert data.location == web.url("/moved.csv")
    assert SECRET not in repr(data)


def test_redirects_in_a_circle_end(web: WebServer, fetching: Fetching, clearml_server: ClearMLServer) -> None:
    web.answers["/circle.csv"] = Answer(status=301, headers={"Location": "/circle.csv"})
    refused = failed(
        fetching.run(clearml_server, {"uri": web.url("/circle.csv")}, resolve=HERE, private_hosts="data.example")
    )
    assert "redirects" in refused.message
    assert len(web.asked) == 6


@pytest.mark.parametrize(
    ("answer", "reason", "detail", "times"),
    [
        (Answer(status=404), Reason.DATASET_UNREACHABLE, Detail.FILE_MISSING, 1),
        (Answer(status=401), Reason.DATASET_UNREACHABLE, Detail.ACCESS_DENIED, 1),
        (Answer(status=403), Reason.DATASET_UNREACHABLE, Detail.ACCESS_DENIED, 1),
        (Answer(status=418), Reason.DATASET_UNREACHABLE, Detail.SERVER_ERROR, 1),
        (Answer(status=304), Reason.DATASET_UNREACHABLE, Detail.SERVER_ERROR, 1),
        (Answer(status=302), Reason.DATASET_UNREACHABLE, Detail.SERVER_ERROR, 1),
        (Answer(status=503), Reason.DATASET_UNREACHABLE, Detail.SERVER_ERROR, 3),
        (Answer(status=429), Reason.DATASET_UNREACHABLE, Detail.SERVER_ERROR, 3),
        (Answer(CSV, said_length=len(CSV) + 1), Reason.DATASET_UNREACHABLE, Detail.CONNECTION_FAILED, 3),
        (Answer(CSV, said_length=2_000_000), Reason.INVALID_DATASET, Detail.TOO_LARGE, 1),
        (Answer(endless=True), Reason.INVALID_DATASET, Detail.TOO_LARGE, 1),
        (
            Answer(gzip.compress(bytes(1_000_000)), headers={"Content-Encoding": "gzip"}),
            Reason.INVALID_DATASET,
            Detail.NOT_CSV,
            1,
        ),
    ],
)
def test_a_bad_answer_has_its_reason_and_leaves_nothing(
    answer: Answer,
    reason: Reason,
    detail: Detail,
    times: int,
    web: WebServer,
    fetching: Fetching,
    clearml_server: ClearMLServer,
) -> None:
    web.answers["/bad.csv"] = answer
    refused = failed(
        fetching.run(
            clearml_server,
            {"uri": web.url("/bad.csv")},
            resolve=HERE,
            private_hosts="data.example",
            max_file_bytes=1_000_000,
        )
    )
    assert (refused.reason, refused.detail) == (reason, detail)
    assert web.url("/bad.csv") in refused.message
    assert len(web.asked) == times
    assert fetching.leftovers == []


def test_a_server_that_recovers_is_asked_again(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    web.answers["/flaky.csv"] = lambda asked: Answer(status=503) if asked < 3 else Answer(CSV)
    data = fetching.run(clearml_server, {"uri": web.url("/flaky.csv")}, resolve=HERE, private_hosts="data.example")
    assert fetched(data).size_bytes == len(CSV)


def test_what_the_server_says_is_unchanged_comes_from_the_cache(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    def tagged(_: int) -> Answer:
        current = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        if web.asked[-1][1].get("if-none-match") == current:
            return Answer(status=304)
        return Answer(content, headers={"ETag": current})

    content, dataset = CSV, {"uri": web.url("/tagged.csv")}
    web.answers["/tagged.csv"] = tagged

    def run() -> str:
        found = fetching.run(clearml_server, dataset, resolve=HERE, private_hosts="data.example")
        return fetched(found).sha256

    first = run()
    assert run() == first
    assert [headers.get("if-none-match") is None for _, headers in web.asked] == [True, False]
    blob = fetching.folder / "cache" / "blobs" / first
    blob.chmod(0o600)
    blob.write_bytes(b"spoilt")
    assert run() == first
    assert [headers.get("if-none-match") is None for _, headers in web.asked] == [True, False, False, True]
    content = b"x,y\n3,4\n"
    assert run() == hashlib.sha256(content).hexdigest()


def test_no_address_and_no_listener_are_told_apart(fetching: Fetching, clearml_server: ClearMLServer) -> None:
    nobody = failed(fetching.run(clearml_server, {"uri": "https://host.invalid/a.csv"}))
    assert (nobody.reason, nobody.detail) == (Reason.DATASET_UNREACHABLE, Detail.HOST_UNKNOWN)
    assert fetching.asked == ["host.invalid"] * 3
    closed = {"uri": "http://data.example:9/a.csv"}
    silent = failed(fetching.run(clearml_server, closed, resolve=HERE, private_hosts="data.example"))
    assert (silent.reason, silent.detail) == (Reason.DATASET_UNREACHABLE, Detail.CONNECTION_FAILED)


def test_the_next_address_is_tried_where_one_does_not_answer(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    names = {"data.example": ["127.0.0.77", "127.0.0.1"]}
    data = fetching.run(clearml_server, {"uri": web.url("/a.csv")}, resolve=names, private_hosts="data.example")
    assert fetched(data).size_bytes == len(CSV)


def test_a_server_that_stands_still_ends_with_the_stall_and_the_deadline(
    web: WebServer, fetching: Fetching, clearml_server: ClearMLServer
) -> None:
    web.answers["/still.csv"] = Answer(CSV, said_length=len(CSV) * 2)

    def stalled(_: int) -> Answer:
        time.sleep(0.6)  # the server's own slowness, longer than the client's patience
        return Answer(CSV)

    web.answers["/slow.csv"] = stalled
    slow = failed(
        fetching.run(
            clearml_server,
            {"uri": web.url("/slow.csv")},
            resolve=HERE,
            private_hosts="data.example",
            stall_timeout_s=0.1,
        )
    )
    assert (slow.detail, "too long" in slow.message) == (Detail.CONNECTION_FAILED, True)
    late = failed(
        fetching.run(
            clearml_server,
            {"uri": web.url("/slow.csv")},
            resolve=HERE,
            private_hosts="data.example",
            deadline_s=0.2,
        )
    )
    assert (late.reason, late.detail) == (Reason.DEADLINE, Detail.ATTEMPT_DEADLINE)
    assert fetching.leftovers == []


def test_tls_is_checked_against_the_name_although_the_connection_goes_to_the_address(
    fetching: Fetching, clearml_server: ClearMLServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(certificate.server_context()) as web:
        web.answers["/a.csv"] = Answer(CSV)
        settings: dict[str, Any] = {"private_hosts": "data.example,other.example"}
        names = {**HERE, "other.example": ["127.0.0.1"]}
        untrusted = failed(fetching.run(clearml_server, {"uri": web.url("/a.csv")}, resolve=names, **settings))
        assert "certificate is not valid" in untrusted.message
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
        good = fetching.run(clearml_server, {"uri": web.url("/a.csv")}, resolve=names, **settings)
        assert fetched(good).size_bytes == len(CSV)
        wrong = {"uri": web.url("/a.csv", "other.example")}
        refused = failed(fetching.run(clearml_server, wrong, resolve=names, **settings))
        assert "certificate is not valid" in refused.message
        with web_server() as plain:
            plain.answers["/a.csv"] = Answer(CSV)
            web.answers["/down.csv"] = Answer(status=302, headers={"Location": plain.url("/a.csv")})
            downgraded = failed(fetching.run(clearml_server, {"uri": web.url("/down.csv")}, resolve=names, **settings))
            assert downgraded.detail == Detail.ADDRESS_NOT_ALLOWED
            assert plain.asked == []
