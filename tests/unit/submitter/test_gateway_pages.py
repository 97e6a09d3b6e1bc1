"""The gateway's pages without a socket: a wrong question is named, only GET is served, and no secret is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.submitter import story
from tests.unit.submitter.test_run_table import ORIGIN, folded, lives, run_id
from trainyard_runtime.health import Readiness
from trainyard_submitter.gateway.clearml_fleet import ClearMLFleet
from trainyard_submitter.gateway.news import Crowded, News
from trainyard_submitter.gateway.run_table import RunTable
from trainyard_submitter.gateway.starlette_pages import STATIC, Pages

SECRET = "canary-s3cr3t"


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def pages_of(table: RunTable) -> Pages:
    readiness = Readiness(True, {"log": "ok", "fold": "ok"})
    return Pages(table, ClearMLFleet(None), News(1), lambda: readiness, lambda: b"metric 1\n", [SECRET])


def ask(table: RunTable, target: str, method: str = "GET") -> Got:
    """One request through the whole application."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
        "scheme": "http",
        "server": ("test", 80),
        "root_path": "",
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def answered() -> None:
        await pages_of(table).application()(scope, receive, send)

    asyncio.run(answered())
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


TABLE = folded(lives(5, ended=3))


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/api/runs?limit=0", "limit"),
        ("/api/runs?limit=1001", "limit"),
        ("/api/runs?limit=-1", "limit"),
        ("/api/runs?limit=", "limit"),
        ("/api/runs?limit=1&limit=2", "limit"),
        ("/api/runs?state=done", "state"),
        ("/api/runs?name=", "name"),
        ("/api/runs?trainer=" + 201 * "x", "trainer"),
        ("/api/runs?colour=red", "colour"),
        ("/api/runs/no-id", "run_id"),
        (f"/api/runs/{run_id(0)}?full=1", "full"),
        (f"/api/runs/{run_id(0)}/log?lines=none", "lines"),
        ("/api/queues?x=1", "x"),
        ("/api/workers?x=1", "x"),
    ],
)
def test_a_wrong_question_is_answered_with_the_field(target: str, field: str) -> None:
    got = ask(TABLE, target)
    assert (got.status, got.document["error"]["field"]) == (400, field)


@pytest.mark.parametrize("target", [f"/api/runs/{run_id(99)}", f"/api/runs/{run_id(99)}/log"])
def test_an_unknown_run_is_404(target: str) -> None:
    got = ask(TABLE, target)
    assert (got.status, got.document["error"]["field"]) == (404, "run_id")
    assert run_id(99) in got.document["error"]["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("target", ["/", "/api/runs", f"/api/runs/{run_id(0)}", "/api/events", "/page.js", "/healthz"])
def test_nothing_but_get_is_served(method: str, target: str) -> None:
    got = ask(TABLE, target, method)
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "target", ["/", "/queues", f"/runs/{run_id(0)}", "/page.js", "/page.css", "/icon.svg", "/api/runs", "/nowhere"]
)
def test_every_answer_keeps_the_browser_at_home(target: str) -> None:
    got = ask(TABLE, target)
    assert got.headers["content-security-policy"].startswith("default-src 'self';")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.status == (404 if target == "/nowhere" else 200)


def test_the_files_name_no_other_address() -> None:
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text
        assert "eval(" not in text


def test_runs_are_filtered_and_the_newest_come_first() -> None:
    found = ask(TABLE, "/api/runs?limit=2").document
    assert ([row["run_id"] for row in found["runs"]], found["total"]) == ([run_id(4), run_id(3)], 5)
    assert ask(TABLE, "/api/runs?state=completed").document["total"] == 3
    assert ask(TABLE, "/api/runs?state=started&name=WINE&trainer=sklearn").document["total"] == 2
    assert ask(TABLE, "/api/runs?trainer=flaml").document["total"] == 0


def test_where_clearml_is_not_known_the_page_says_so_and_shows_what_the_log_tells() -> None:
    queues = ask(TABLE, "/api/queues").document
    assert "keys" in queues["clearml"]
    assert queues["queues"] == [{"name": "cpu", "entries": None, "workers": None, "waiting": 0, "training": 2}]
    assert ask(TABLE, "/api/workers").document["workers"] == []
    log = ask(TABLE, f"/api/runs/{run_id(0)}/log").document
    assert (log["lines"], "keys" in log["why_not"]) == ([], True)


def table_with_secrets() -> RunTable:
    request = dict(story.REQUEST) | {"run_name": SECRET}
    accepted = story.accepted(run_id(0), ORIGIN, request)
    address = "https://ann:hunter2-canary@data.example/t.csv?X-Amz-Signature=abcdef0123"
    accepted = accepted.model_copy(update={"request": accepted.request | {"dataset": {"uri": address}}})
    return folded(story.Log().append([accepted]))


@pytest.mark.parametrize("target", ["/api/runs", f"/api/runs/{run_id(0)}"])
def test_no_secret_is_told(target: str) -> None:
    got = ask(table_with_secrets(), target)
    assert got.status == 200
    for secret in (SECRET, "hunter2-canary", "abcdef0123"):
        assert secret.encode() not in got.body


def test_a_live_event_tells_no_secret_either() -> None:
    table = table_with_secrets()
    row = table.row(run_id(0))
    assert row is not None
    assert SECRET in row["run_name"]
    assert SECRET not in pages_of(table).line(row)


def test_health_pages_have_the_form_of_the_other_services() -> None:
    assert ask(TABLE, "/healthz").document == {"alive": True}
    assert ask(TABLE, "/readyz").document == {"ready": True, "checks": {"log": "ok", "fold": "ok"}}
    metrics = ask(TABLE, "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_a_follower_that_does_not_keep_up_is_let_go_and_one_too_many_is_not_taken() -> None:
    async def story_of() -> None:
        news = News(max_followers=1)
        texts = news.follow("first")
        assert await anext(texts) == "first"
        with pytest.raises(Crowded):
            news.follow("second")
        for number in range(1_001):
            news.tell("run", str(number))
        assert news.followers == 0
        assert [text async for text in texts] == []
        again = news.follow("again")
        assert await anext(again) == "again"
        news.tell("run", "{}")
        assert await anext(again) == "event: run\ndata: {}\n\n"
        news.close()
        assert [text async for text in again] == []

    asyncio.run(story_of())
