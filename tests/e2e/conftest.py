"""One stack for all end-to-end tests, started and ended by the launcher."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.prometheus_process import JOBS, Prometheus, running_prometheus
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncPublisher, SyncReader
from trainyard_schemas.topics import RUN_PARTITIONS

ROOT = Path(__file__).parents[2]
RUN_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack, reached only as strangers reach it: the launcher, Kafka and HTTP."""

    home: Path
    bootstrap: str

    def trainyard(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`./trainyard ARGUMENTS`, its output captured."""
        return subprocess.run(
            [str(ROOT / "trainyard"), *arguments],
            env={**os.environ, "TRAINYARD_HOME": str(self.home)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,
        )

    def status(self) -> dict[str, Any]:
        done = self.trainyard("status", "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def status_when(self, holds: Callable[[Mapping[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first status of which that holds: a busy service may answer too late, once, to be called ready."""
        deadline = time.monotonic() + 60
        while not holds(status := self.status()):
            assert time.monotonic() < deadline, f"not {what}: {status}"
            time.sleep(0.5)
        return status

    def wait_until_ready(self, service: str) -> None:
        """Wait until the status calls this service ready."""
        self.status_when(lambda status: status["services"][service]["ready"], f"a {service} that is ready")

    def publish(self, value: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> None:
        """One record on the request topic."""
        publisher = SyncPublisher(Address(self.bootstrap))
        publisher.publish("trainyard.runs.requested", value, headers or [])
        publisher.close()

    def values(self, topic: str) -> list[bytes]:
        """The bytes of every record of a topic of ours, partition by partition."""
        reader = SyncReader(Address(self.bootstrap))
        try:
            positions = [(f"trainyard.{topic}", partition) for partition in range(RUN_PARTITIONS)]
            return [record.value or b"null" for record in reader.read_to_end(reader.beginnings(positions))]
        finally:
            reader.close()

    def records(self, topic: str) -> list[dict[str, Any]]:
        """Every record of a topic that only we write, decoded as plain JSON."""
        return [json.loads(value) for value in self.values(topic)]

    def requests(self) -> list[dict[str, Any]]:
        """The JSON objects on `runs.requested`; tests publish other things there too."""
        found = []
        for value in self.values("runs.requested"):
            with contextlib.suppress(ValueError):
                found.append(json.loads(value))
        return [request for request in found if isinstance(request, dict)]

    def ends(self, belongs: Callable[[Mapping[str, Any]], bool], count: int = 1) -> list[dict[str, Any]]:
        """The first `count` different runs on `runs.completed` whose data `belongs`; waits for them."""
        deadline = time.monotonic() + RUN_DEADLINE_S
        while True:
            by_run = {r["data"]["run_id"]: r["data"] for r in self.records("runs.completed") if belongs(r["data"])}
            if len(by_run) >= count:
                return list(by_run.values())
            assert time.monotonic() < deadline, f"{len(by_run)} of {count} runs ended within {RUN_DEADLINE_S} s"
            time.sleep(0.5)

    def end_of(self, run_name: str) -> dict[str, Any]:
        """The one terminal event of the run of this name."""
        (end,) = self.ends(lambda data: data.get("run_name") == run_name)
        return end


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("home"), bootstrap="")
    started = running.trainyard("up", "--detach")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield Stack(running.home, running.status()["kafka"]["bootstrap"])
    finally:
        ended = running.trainyard("down")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def run_name() -> str:
    """A name that no other run has."""
    return f"e2e-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def wine(run_name: str) -> dict[str, Any]:
    """A request that trains in a second."""
    request = json.loads((ROOT / "examples" / "requests" / "wine-sklearn.json").read_text())
    return {**request, "run_name": run_name}


@pytest.fixture(scope="session")
def kcat() -> str:
    """The path of kcat, the client of strangers."""
    found = shutil.which("kcat")
    if found is None:
        pytest.skip("needs the program kcat (Debian: apt-get install kcat)")
    return found


@pytest.fixture(scope="package")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus with our configuration, which scrapes the stack."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs the program prometheus (Debian: apt-get install prometheus)")
    services = stack.status()["services"]
    targets = {job: [services[name]["address"].removeprefix("http://")] for job, name in JOBS.items()}
    with running_prometheus(program, tmp_path_factory.mktemp("prometheus"), targets) as running:
        yield running
