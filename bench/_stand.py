"""The stand on which dispatching is measured: a real broker, a ClearML API as slow as a real one, one dispatcher."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_schemas.topics import DEFAULT_PREFIX, TOPICS

KEYS = {"CLEARML_API_ACCESS_KEY": "bench-access", "CLEARML_API_SECRET_KEY": "bench-secret-0123456789"}


@dataclass(frozen=True, slots=True)
class Stand:
    """Where everything is. `environment` is what a service needs to reach it."""

    bootstrap: str
    api: str
    dispatcher_pid: int
    environment: Mapping[str, str]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def wait_until(holds: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Return once `holds()`; RuntimeError names `what` after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {deadline_s} s")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """True where a GET gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == http.HTTPStatus.OK)
    except OSError:
        return False


@contextlib.contextmanager
def process(module: str, *arguments: str, environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """`python -m module` for as long as the block runs; gives its pid."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env={**os.environ, **environment}, stdout=out, stderr=out
        )
        try:
            yield child.pid
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextlib.contextmanager
def stand(*, delay: str, queues: tuple[str, ...], max_queue_depth: int) -> Iterator[Stand]:
    """A whole stand with these queues; `delay` is the API's (`real` or `none`)."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        kafka = stack.enter_context(EmbeddedKafka(home / "kafka"))
        apply_topics(kafka.bootstrap, DEFAULT_PREFIX, TOPICS)
        api_port, files_port, http_port = free_ports(3)
        api = f"http://127.0.0.1:{api_port}"
        environment = {
            **KEYS,
            "TRAINYARD_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "TRAINYARD_TOPIC_PREFIX": DEFAULT_PREFIX,
            "CLEARML_API_HOST": api,
            "CLEARML_FILES_HOST": f"http://127.0.0.1:{files_port}",
            "CLEARML_WEB_HOST": api,
            "TRAINYARD_HTTP_PORT": str(http_port),
            "TRAINYARD_STATE_DIR": str(home / "state"),
            "TRAINYARD_MAX_QUEUE_DEPTH": str(max_queue_depth),
            "HOME": str(home),
        }
        server = ["--host", "127.0.0.1", "--api-port", str(api_port), "--files-port", str(files_port)]
        stack.enter_context(
            process(
                "trainyard_devstack.clearml_api",
                *server,
                "--data",
                str(home / "clearml"),
                "--delay",
                delay,
                environment=environment,
                log=home / "clearml.log",
            )
        )
        wait_until(lambda: answers(f"{api}/debug.ping"), "ClearML API ready", 30)
        client = DirectClient(api)
        for name in queues:
            client.call("queues.create", {"name": name})
        pid = stack.enter_context(process("trainyard_dispatcher", environment=environment, log=home / "dispatcher.log"))
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{http_port}/readyz"), "dispatcher ready", 60)
            yield Stand(kafka.bootstrap, api, pid, environment)
        except BaseException:
            sys.stderr.write((home / "dispatcher.log").read_text()[-4000:])
            raise


class DirectClient:
    """The least that can create and enqueue: the standard library's HTTP client, one call after the other."""

    def __init__(self, api: str) -> None:
        self._address = urlsplit(api).netloc
        pair = f"{KEYS['CLEARML_API_ACCESS_KEY']}:{KEYS['CLEARML_API_SECRET_KEY']}"
        self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        self._authorization = "Bearer " + str(self.call("auth.login", {})["token"])

    def call(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The `data` of one answer; RuntimeError with the envelope's message otherwise."""
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
            connection.request("POST", f"/{action}", json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if answer["meta"]["result_code"] != http.HTTPStatus.OK:
            raise RuntimeError(f"{action}: {answer['meta']['result_msg']}")
        return dict(answer["data"])
