"""What the client may conclude when the network or the server fails: never too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.behaviour.clearml.raw import Made
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import (
    ClearMLClient,
    ClearMLRefused,
    ClearMLUnavailable,
    ClearMLUnknownOutcome,
    hyperparams,
)
from trainyard_runtime.clearml.transport import READ_ATTEMPTS, read_envelope, token_lifetime_s

Rule = Callable[[bytes], bytes | None]


class Proxy:
    """A TCP proxy that passes each request on and treats the answer as told.

    `rule(request_head)` says what the client gets instead of the server's answer: None passes the answer on, b"" cuts
    the connection after the server has answered, other bytes replace the answer.
    """

    def __init__(self, server: ClearMLServer) -> None:
        self._upstream = urlsplit(server.api)
        self.rule: Rule = lambda _: None
        self.seen: list[str] = []
        self.address = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        body = await reader.readexactly(length)
        self.seen.append(head.split(b" ")[1].decode().strip("/"))
        up_reader, up_writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        up_writer.write(head.replace(b"Connection: keep-alive", b"Connection: close") + body)
        answer = await up_reader.read(-1)
        up_writer.close()
        await up_writer.wait_closed()
        replaced = self.rule(head)
        writer.write(answer if replaced is None else replaced)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def proxied(server: ClearMLServer) -> AsyncIterator[tuple[Proxy, ClearMLClient]]:
    proxy = Proxy(server)
    listener = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()[:2]
        async with ClearMLClient(server.settings(api_host=f"http://{host}:{port}")) as client:
            yield proxy, client


def run(server: ClearMLServer, act: Callable[[Proxy, ClearMLClient], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with proxied(server) as (proxy, client):
            await act(proxy, client)

    asyncio.run(main())


def on(action: str, answer: bytes) -> Rule:
    return lambda head: answer if f"/{action} ".encode() in head else None


def http(status: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def test_a_lost_answer_to_create_is_an_unknown_outcome_and_is_not_sent_again(
    clearml_server: ClearMLServer, made: Made
) -> None:
    mark = made.name("run")
    body = {"name": mark, "type": "training", "hyperparams": hyperparams({"Run": {"run_id": mark}})}

    async def act(proxy: Proxy, client: ClearMLClient) -> None:
        proxy.rule = on("tasks.create", b"")
        with pytest.raises(ClearMLUnknownOutcome, match=r"tasks\.create"):
            await client.create_task(body)
        assert proxy.seen.count("tasks.create") == 1
        found = [task["id"] for task in await client.find_tasks_by_run([mark])]
        made.tasks.extend(found)
        assert len(found) == 1

    run(clearml_server, act)


def test_a_lost_answer_to_enqueue_is_an_unknown_outcome_and_reading_tells(
    clearml_server: ClearMLServer, made: Made
) -> None:
    queue, task = made.queue(), made.task()

    async def act(proxy: Proxy, client: ClearMLClient) -> None:
        proxy.rule = on("tasks.enqueue", b"")
        with pytest.raises(ClearMLUnknownOutcome):
            await client.enqueue_task(task, queue)
        assert proxy.seen.count("tasks.enqueue") == 1
        assert (await client.get_task(task, ["status"]) or {})["status"] == "queued"

    run(clearml_server, act)


@pytest.mark.parametrize(
    "answer",
    [
        http("500 Internal Server Error"),
        http("502 Bad Gateway", b"<html>nginx</html>"),
        http("503 Service Unavailable"),
        http("429 Too Many Requests"),
        http("200 OK", b"<html>a login page</html>"),
        http("200 OK", b"[]"),
        http("404 Not Found", b"<html>somebody else's</html>"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=["500", "502", "503", "429", "200-html", "200-list", "404-html", "half-an-answer", "no-http"],
)
def test_an_answer_that_is_not_clearml_s_is_an_unknown_outcome_for_an_effect_and_unavailable_for_a_read(
    clearml_server: ClearMLServer, made: Made, answer: bytes
) -> None:
    queue, task = made.queue(), made.task()

    async def act(proxy: Proxy, client: ClearMLClient) -> None:
        proxy.rule = on("tasks.enqueue", answer)
        with pytest.raises(ClearMLUnknownOutcome):
            await client.enqueue_task(task, queue)
        assert proxy.seen.count("tasks.enqueue") == 1
        proxy.rule = on("tasks.get_all", answer)
        with pytest.raises(ClearMLUnavailable):
            await client.get_task(task)
        assert proxy.seen.count("tasks.get_all") == READ_ATTEMPTS

    run(clearml_server, act)


def test_a_read_gets_over_one_lost_answer(clearml_server: ClearMLServer, made: Made) -> None:
    task = made.task()

    async def act(proxy: Proxy, client: ClearMLClient) -> None:
        def first_only(head: bytes) -> bytes | None:
            return b"" if b"/tasks.get_all " in head and proxy.seen.count("tasks.get_all") == 1 else None

        proxy.rule = first_only
        assert (await client.get_task(task, ["id"]) or {})["id"] == task
        assert proxy.seen.count("tasks.get_all") == 2

    run(clearml_server, act)


def test_a_login_that_fails_means_that_the_effect_was_not_executed(clearml_server: ClearMLServer, made: Made) -> None:
    queue, task = made.queue(), made.task()

    async def act(proxy: Proxy, client: ClearMLClient) -> None:
        proxy.rule = on("auth.login", http("503 Service Unavailable"))
        with pytest.raises(ClearMLUnavailable):
            await client.enqueue_task(task, queue)
        assert "tasks.enqueue" not in proxy.seen
        proxy.rule = lambda _: None
        assert (await client.get_task(task, ["status"]) or {})["status"] == "created"

    run(clearml_server, act)


def test_a_late_answer_is_an_unknown_outcome_and_a_read_does_not_wait_for_another(
    clearml_server: ClearMLServer,
) -> None:
    async def main() -> None:
        connections = 0
        left = asyncio.Event()

        async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.read(-1)
            writer.close()
            await writer.wait_closed()
            left.set()

        silent = await asyncio.start_server(never_answer, "127.0.0.1", 0)
        async with silent:
            host, port = silent.sockets[0].getsockname()[:2]
            settings = clearml_server.settings()
            async with ClearMLClient(settings) as client:
                await client.queues()
                slow = settings.model_copy(update={"api_host": f"http://{host}:{port}", "timeout_s": 0.3})
                client._transport._settings = slow
                client._transport.http.timeout = 0.3
                with pytest.raises(ClearMLUnknownOutcome, match="ReadTimeout"):
                    await client.create_task({"name": "never answered", "type": "training"})
                with pytest.raises(ClearMLUnavailable, match="ReadTimeout"):
                    await client.queues()
            await asyncio.wait_for(left.wait(), 5)
            assert connections == 2

    asyncio.run(main())


def test_a_refused_connection_is_certainly_not_executed(clearml_server: ClearMLServer) -> None:
    async def main() -> None:
        listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()[:2]
        listener.close()
        await listener.wait_closed()
        async with ClearMLClient(clearml_server.settings(api_host=f"http://{host}:{port}")) as client:
            with pytest.raises(ClearMLUnavailable, match="cannot reach"):
                await client.create_task({"name": "nobody there", "type": "training"})

    asyncio.run(main())


def test_a_refusal_is_told_apart_by_its_subcode() -> None:
    meta = b'{"meta": {"result_code": %d, "result_subcode": %d, "result_msg": "no"}, "data": {}}'
    for code, subcode in ((400, 101), (401, 30), (403, 0), (404, 0), (501, 0)):
        with pytest.raises(ClearMLRefused) as refusal:
            read_envelope("tasks.create", code, meta % (code, subcode))
        assert (refusal.value.code, refusal.value.subcode, refusal.value.msg) == (code, subcode, "no")
    for code in (429, 500, 503):
        with pytest.raises(ClearMLUnknownOutcome):
            read_envelope("tasks.create", code, meta % (code, 0))


@pytest.mark.parametrize("token", ["", "a.b", "no.t@@ken.x", "a.e30.b"])
def test_a_token_that_does_not_say_is_good_for_an_hour(token: str) -> None:
    assert token_lifetime_s(token) == 3600.0
