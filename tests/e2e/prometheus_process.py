"""A real Prometheus with our configuration, its targets where a stack really listens."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.architecture.sources import ROOT

SCRAPE_S = 1
JOBS = {"trainyard-dispatcher": "dispatcher", "trainyard-worker": "trainer-worker", "clearml-serving": "stats"}
"""The jobs of our configuration, and the stack's service that each scrapes."""

START_S = 30.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    address: str

    def query(self, expression: str, at: float | None = None) -> dict[frozenset[tuple[str, str]], float]:
        """An instant query: the value per set of labels, without names. Raises AssertionError where it is refused."""
        parameters = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        answer = self._get(f"/api/v1/query?{urllib.parse.urlencode(parameters)}")
        assert answer["status"] == "success", (expression, answer)
        return {
            frozenset((k, v) for k, v in sample["metric"].items() if k != "__name__"): float(sample["value"][1])
            for sample in answer["data"]["result"]
        }

    def is_up(self, jobs: set[str]) -> bool:
        """Whether every target of these jobs was scraped."""
        found = self.query("up")
        return {dict(labels)["job"] for labels, value in found.items() if value == 1} >= jobs

    def rules(self) -> list[dict[str, Any]]:
        """Every rule as Prometheus runs it, with its health."""
        return [rule for group in self._get("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]

    def _get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))


def configuration(targets: Mapping[str, list[str]], own: str) -> dict[str, Any]:
    """Ours, with these targets per job, scraped and evaluated often enough for a test."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())
    document["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    document["rule_files"] = [str(ROOT / "infra" / "prometheus" / pattern) for pattern in document["rule_files"]]
    for job in document["scrape_configs"]:
        job["static_configs"] = [{"targets": targets.get(job["job_name"], [own])}]
    return document


@contextmanager
def running_prometheus(program: str, folder: Path, targets: Mapping[str, list[str]]) -> Iterator[Prometheus]:
    """Start it on a free port; ended on leaving."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = f"127.0.0.1:{probe.getsockname()[1]}"
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(configuration(targets, own)))
    command = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={own}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    prometheus = Prometheus(f"http://{own}")
    try:
        give_up_at = time.monotonic() + START_S
        while not _is_up(prometheus, {*targets, "prometheus"}):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < give_up_at, log.read_text()[-3000:]
            time.sleep(0.2)
        yield prometheus
    finally:
        process.terminate()
        process.wait(timeout=20)


def _is_up(prometheus: Prometheus, jobs: set[str]) -> bool:
    try:
        return prometheus.is_up(jobs)
    except (OSError, ValueError):  # between listening and being ready it answers in plain words
        return False
