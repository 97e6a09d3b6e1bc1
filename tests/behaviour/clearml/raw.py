"""Calls as plain HTTP, and things that clean up after themselves."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """An envelope as it came."""

    http_status: int
    headers: httpx2.Headers
    meta: dict[str, Any]
    data: dict[str, Any]

    @property
    def code(self) -> tuple[int, int]:
        """HTTP status and subcode: (200, 0), (400, 101), ..."""
        return self.http_status, self.meta["result_subcode"]


class Raw:
    """Any call, with any method, any headers, and without a client's opinions."""

    def __init__(self, server: ClearMLServer) -> None:
        self.server = server
        self.http = httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0), timeout=30)
        self.token: str = self.call("auth.login", auth=(server.access_key, server.secret_key)).data["token"]

    def __call__(self, action: str, body: dict[str, Any] | None = None, **fields: Any) -> Answer:
        return self.call(action, {**(body or {}), **fields}, headers={"Authorization": f"Bearer {self.token}"})

    def call(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """One request to `/path`; `content` replaces the JSON body."""
        sent: dict[str, Any] = {"json": {} if body is None else body} if content is None else {"content": content}
        self.http.cookies.clear()  # the login's would let in whatever has no credentials
        response = self.http.request(method, f"{self.server.api}/{path}", headers=headers, auth=auth, **sent)
        answer = response.json()
        return Answer(response.status_code, response.headers, answer["meta"], answer.get("data") or {})

    def ok(self, action: str, **fields: Any) -> dict[str, Any]:
        """The data of a call that must succeed."""
        answer = self(action, fields)
        assert answer.code == (200, 0), f"{action}: {answer.meta}"
        return answer.data

    def task(self, task_id: str) -> dict[str, Any]:
        """The whole task."""
        found: dict[str, Any] = self.ok("tasks.get_by_id", task=task_id)["task"]
        return found

    def entries(self, queue_id: str) -> list[str]:
        """The ids of the tasks that wait in a queue, first in first."""
        queue = self.ok("queues.get_by_id", queue=queue_id)["queue"]
        return [entry["task"] for entry in queue.get("entries") or []]


class Made:
    """What a test creates; all of it is removed afterwards, whatever its state."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self.tasks: list[str] = []
        self.queues: list[str] = []
        self.projects: list[str] = []
        self.models: list[str] = []

    def name(self, what: str = "contract") -> str:
        """A name that nobody else has."""
        return f"{what} {uuid.uuid4().hex}"

    def queue(self) -> str:
        """An empty queue's id."""
        queue_id: str = self._raw.ok("queues.create", name=self.name("queue"))["id"]
        self.queues.append(queue_id)
        return queue_id

    def project(self) -> str:
        """A project's id."""
        project_id: str = self._raw.ok("projects.create", name=self.name("project"), description="")["id"]
        self.projects.append(project_id)
        return project_id

    def model(self, **fields: Any) -> str:
        """A model's id."""
        body = {"name": self.name("model"), "uri": "https://example.org/model.bin", **fields}
        model_id: str = self._raw.ok("models.create", **body)["id"]
        self.models.append(model_id)
        return model_id

    def task(self, status: str = "created", queue: str | None = None, **fields: Any) -> str:
        """A task's id, brought to a status by the calls that lead there."""
        task_id: str = self._raw.ok("tasks.create", **{"name": self.name("task"), "type": "training", **fields})["id"]
        self.tasks.append(task_id)
        if status == "queued":
            self._raw.ok("tasks.enqueue", task=task_id, queue=queue or self.queue())
        elif status != "created":
            for step in ("started", *STEPS[status]):
                self._raw.ok(f"tasks.{step}", task=task_id)
        return task_id

    def clean(self) -> None:
        """Remove everything."""
        for task in self.tasks:
            self._raw("tasks.delete", task=task, force=True)
        for queue in self.queues:
            self._raw("queues.delete", queue=queue, force=True)
        for model in self.models:
            self._raw("models.delete", model=model, force=True)
        for project in self.projects:
            self._raw("projects.delete", project=project, force=True)


STEPS: dict[str, tuple[str, ...]] = {
    "in_progress": (),
    "stopped": ("stopped",),
    "completed": ("completed",),
    "failed": ("failed",),
    "published": ("completed", "publish"),
}


def with_client(server: ClearMLServer, act: Callable[[ClearMLClient], Coroutine[Any, Any, T]], **changes: object) -> T:
    """Run a coroutine with a fresh REST client."""

    async def run() -> T:
        async with ClearMLClient(server.settings(**changes)) as client:
            return await act(client)

    return asyncio.run(run())


def eventually(read: Callable[[], T], wanted: Callable[[T], bool], *, deadline_s: float = 60.0) -> T:
    """Read until it is as wanted: a real server indexes events a little later."""
    until = time.monotonic() + deadline_s
    while True:
        value = read()
        if wanted(value) or time.monotonic() > until:
            assert wanted(value), value
            return value
        time.sleep(0.05)
