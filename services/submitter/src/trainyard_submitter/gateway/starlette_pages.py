"""The gateway's pages and its JSON API, over HTTP: GET and HEAD only, nothing from elsewhere, and no secret.

Every answer that tells of runs goes through one door (`Pages._json` and `Pages.line`), which takes secrets out.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard_runtime.health import PROMETHEUS_TEXT, Readiness
from trainyard_schemas.redaction import STARS, redacted
from trainyard_submitter.gateway import questions
from trainyard_submitter.gateway.clearml_fleet import ClearMLFleet, LogUnreadable
from trainyard_submitter.gateway.fleet_view import facts_of, queues_json, workers_json
from trainyard_submitter.gateway.news import Crowded, News, message
from trainyard_submitter.gateway.questions import BadQuestion
from trainyard_submitter.gateway.run_document import Json
from trainyard_submitter.gateway.run_table import RunTable

STATIC: Final = Path(__file__).parent / "static"
MEDIA: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
RECONNECT_MS: Final = 1_000
HEADERS: Final = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_LEAST_SECRET = 4

Answer = Callable[[Request], Awaitable[Response]]


class Pages:
    """Answers every request from what the gateway holds, and asks ClearML where a page needs it."""

    def __init__(
        self,
        table: RunTable,
        fleet: ClearMLFleet,
        news: News,
        readiness: Callable[[], Readiness],
        metrics: Callable[[], bytes],
        secrets: Iterable[str],
    ) -> None:
        self._table = table
        self._fleet = fleet
        self._news = news
        self._readiness = readiness
        self._metrics = metrics
        self._secrets = [_as_written(secret) for secret in secrets if len(secret) >= _LEAST_SECRET]

    def application(self) -> ASGIApp:
        """The ASGI application."""
        routes = [
            *(Route(path, self._page) for path in ("/", "/queues", "/runs/{run_id}")),
            *(Route(f"/{name}", functools.partial(_static, name)) for name in MEDIA),
            Route("/api/runs", self._asked(self._runs)),
            Route("/api/runs/{run_id}", self._asked(self._run)),
            Route("/api/runs/{run_id}/log", self._asked(self._log)),
            Route("/api/queues", self._asked(self._queues)),
            Route("/api/workers", self._asked(self._workers)),
            Route("/api/events", self._events),
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
            Route("/metrics", self._counts),
        ]
        return _Safe(Starlette(routes=routes, exception_handlers={HTTPException: self._refused}))

    def line(self, document: Mapping[str, Any]) -> str:
        """A document as JSON in one line, its secrets taken out."""
        return self._bytes(document).decode()

    async def _page(self, _: Request) -> Response:
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html")

    async def _runs(self, request: Request) -> Json:
        answer = questions.runs_question(request.query_params.multi_items()).answer(self._table.rows())
        return answer | {"log": self._readiness().checks["log"]}

    async def _run(self, request: Request) -> Json:
        run_id = questions.checked_run_id(request.path_params["run_id"])
        questions.nothing_asked(request.query_params.multi_items())
        state = self._table.state(run_id)
        fleet = await self._fleet.look() if state is not None and state.queue else None
        found = self._table.document(run_id, time.time(), facts_of(fleet, self._table.state(run_id)))
        if found is None:
            raise _Unknown(run_id)
        return found

    async def _log(self, request: Request) -> Json:
        run_id = questions.checked_run_id(request.path_params["run_id"])
        lines = questions.log_lines(request.query_params.multi_items())
        row = self._table.document(run_id, time.time())
        if row is None:
            raise _Unknown(run_id)
        if not row["task_id"]:
            return {"run_id": run_id, "lines": [], "why_not": "there is no ClearML task yet"}
        try:
            console, why_not = await self._fleet.console(row["task_id"], lines), None
        except LogUnreadable as error:
            console, why_not = [], str(error)
        return {"run_id": run_id, "lines": console, "why_not": why_not}

    async def _queues(self, request: Request) -> Json:
        questions.nothing_asked(request.query_params.multi_items())
        fleet = await self._fleet.look()
        return queues_json(fleet, self._fleet.trouble, self._table.open_states())

    async def _workers(self, request: Request) -> Json:
        questions.nothing_asked(request.query_params.multi_items())
        fleet = await self._fleet.look()
        return workers_json(fleet, self._fleet.trouble, self._table.open_states())

    async def _events(self, _: Request) -> Response:
        hello = f"retry: {RECONNECT_MS}\n" + message("hello", self.line({"runs": len(self._table)}))
        try:
            texts = self._news.follow(hello)
        except Crowded:
            return self._json({"error": {"message": "too many follow the live events already; try again later"}}, 503)
        return StreamingResponse(texts, media_type="text/event-stream")

    async def _alive(self, _: Request) -> Response:
        return self._json({"alive": True})

    async def _ready(self, _: Request) -> Response:
        found = self._readiness()
        return self._json({"ready": found.ready, "checks": dict(found.checks)}, 200 if found.ready else 503)

    async def _counts(self, _: Request) -> Response:
        return Response(self._metrics(), headers={"Content-Type": PROMETHEUS_TEXT})

    def _asked(self, answer: Callable[[Request], Awaitable[Json]]) -> Answer:
        async def endpoint(request: Request) -> Response:
            try:
                return self._json(await answer(request))
            except BadQuestion as error:
                return self._json({"error": {"field": error.field, "message": error.message}}, 400)
            except _Unknown as error:
                return self._json({"error": {"field": "run_id", "message": str(error)}}, 404)

        return endpoint

    async def _refused(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = "only GET is served here" if error.status_code == 405 else "no such page"
        response = self._json({"error": {"message": said}}, error.status_code)
        if error.status_code == 405:
            response.headers["Allow"] = "GET, HEAD"
        return response

    def _json(self, document: Mapping[str, Any], status: int = 200) -> Response:
        return Response(self._bytes(document), status, media_type="application/json")

    def _bytes(self, document: Mapping[str, Any]) -> bytes:
        content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        for secret in self._secrets:
            content = content.replace(secret, STARS)
        return redacted(content) or b""


class _Unknown(Exception):
    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run {run_id} is known here; the page keeps those that have not ended, and the newest")


class _Safe:
    """Puts the headers that keep a browser from loading anything from elsewhere on every answer."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(found: Message) -> None:
            if found["type"] == "http.response.start":
                found["headers"] = [*found["headers"], *HEADERS]
            await send(found)

        await self._inner(scope, receive, with_headers)


async def _static(name: str, _: Request) -> Response:
    return Response((STATIC / name).read_bytes(), media_type=MEDIA[name])


def _as_written(secret: str) -> bytes:
    """A secret as it would stand inside a text of a JSON document."""
    return json.dumps(secret, ensure_ascii=False)[1:-1].encode()
