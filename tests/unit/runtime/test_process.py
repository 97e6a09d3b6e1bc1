"""A service's process: its pages, its settings, its end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.timing import in_time
from trainyard_runtime.health import HealthServer, Readiness
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.settings import EXIT_CONFIGURATION, ConfigurationError, ServiceSettings, read_settings


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_pages_say_alive_ready_and_metrics() -> None:
    async def scenario() -> None:
        ready = False
        server = HealthServer(
            "tester",
            "127.0.0.1",
            0,
            readiness=lambda: Readiness(ready, {"kafka": "ok" if ready else "not assigned"}),
            metrics=lambda: b"up 1\n",
        )
        await server.start()
        try:
            assert await asyncio.to_thread(_get, server.address + "/healthz") == (200, b'{"alive": true}\n')
            status, body = await asyncio.to_thread(_get, server.address + "/readyz")
            assert (status, json.loads(body)) == (503, {"ready": False, "checks": {"kafka": "not assigned"}})
            ready = True
            assert (await asyncio.to_thread(_get, server.address + "/readyz"))[0] == 200
            assert await asyncio.to_thread(_get, server.address + "/metrics") == (200, b"up 1\n")
            assert (await asyncio.to_thread(_get, server.address + "/nothing"))[0] == 404
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.address.rpartition(":")[2]))
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 405 " in await reader.readline()
            writer.close()
        finally:
            await server.stop()

    asyncio.run(scenario())


_SERVICE = """
import asyncio, sys
from trainyard_runtime.logs import configure_logs
from trainyard_runtime.process import run_service
configure_logs("t")
async def main(stop):
    print("up", flush=True)
    {body}
sys.exit(run_service(main))
"""


@pytest.mark.timed
@pytest.mark.parametrize(
    ("body", "status"),
    [("await stop.wait()", 0), ("await asyncio.Event().wait()", 0)],
    ids=["a service that listens", "a service that hangs"],
)
def test_sigterm_ends_a_service_within_two_seconds(body: str, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVICE.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == status
    in_time(4, time.monotonic() - asked)


def test_a_service_that_fails_says_why_and_exits_with_1() -> None:
    code = _SERVICE.format(body="raise ValueError('broken')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "ValueError: broken" in json.loads(done.stderr.splitlines()[-1])["exception"]


def test_wrong_settings_name_the_variable_and_not_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HTTP_PORT", "99999999")
    with pytest.raises(ConfigurationError, match="TRAINYARD_HTTP_PORT is wrong") as found:
        read_settings(ServiceSettings)
    assert "99999999" not in str(found.value)
    monkeypatch.delenv("TRAINYARD_KAFKA_BOOTSTRAP", raising=False)
    with pytest.raises(ConfigurationError, match="TRAINYARD_KAFKA_BOOTSTRAP is not set"):
        read_settings(KafkaSettings)
    monkeypatch.setenv("TRAINYARD_KAFKA_BOOTSTRAP", "nonsense")
    with pytest.raises(ConfigurationError, match="host:port"):
        read_settings(KafkaSettings)
    assert EXIT_CONFIGURATION == 78


def test_a_prefix_without_its_dot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_KAFKA_BOOTSTRAP", "localhost:9092")
    monkeypatch.setenv("TRAINYARD_TOPIC_PREFIX", "yard")
    with pytest.raises(ConfigurationError, match=r"TRAINYARD_TOPIC_PREFIX.*dot"):
        read_settings(KafkaSettings)
