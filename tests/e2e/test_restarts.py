"""The supervisor restarts what dies, and the runs go on."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.e2e.conftest import Stack


@pytest.mark.parametrize("service", ["dispatcher", "trainer-worker", "stats"])
def test_a_killed_service_comes_back_under_the_same_address_and_the_run_completes(
    stack: Stack, wine: dict[str, Any], run_name: str, service: str
) -> None:
    before = stack.status()["services"][service]
    os.kill(before["pid"], signal.SIGKILL)
    stack.publish(json.dumps(wine).encode())
    assert stack.end_of(run_name)["state"] == "completed"
    deadline = time.monotonic() + 30
    while not (now := stack.status()["services"][service])["ready"] or now["pid"] == before["pid"]:
        assert time.monotonic() < deadline, f"{service} did not come back"
        time.sleep(0.2)
    assert now["address"] == before["address"]
