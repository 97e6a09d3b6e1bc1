"""The unchanged clearml-serving, from the locked packages of its image, with its control plane in a stack."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.architecture.sources import ROOT
from tests.deployment.image_environment import Image, free_port, running, until

PREPROCESS = ROOT / "examples" / "serving" / "preprocess.py"


@dataclass(frozen=True, slots=True)
class Serving:
    """A control-plane task, and what the programs of clearml-serving need to reach it."""

    image: Image
    environment: Mapping[str, str]
    task_id: str

    @classmethod
    def create(cls, image: Image, environment: Mapping[str, str], name: str) -> Serving:
        """`clearml-serving create`."""
        said = _command(image, environment, "create", "--name", name, "--project", "DevOps")
        return cls(image, environment, said.rpartition("id=")[2].strip())

    def add(self, endpoint: str, version: str, model_id: str) -> None:
        """`clearml-serving model add` of a model that a run registered, with our example's code."""
        what = ("--engine", "custom", "--endpoint", endpoint, "--version", version, "--model-id", model_id)
        arguments = ("--yes", "--id", self.task_id, "model", "add", *what, "--preprocess", str(PREPROCESS))
        _command(self.image, self.environment, *arguments)

    @contextmanager
    def started(self, folder: Path) -> Iterator[Inference]:
        """The inference service, by the image's own entry point and health check; ended by SIGTERM."""
        port = str(free_port())
        command = [port if word == "8080" else word for word in self.image.entry_point()]
        check = [word.replace("8080", port) for word in self.image.health_check()]
        given = {**self.environment, "CLEARML_SERVING_TASK_ID": self.task_id}

        def is_healthy() -> bool:
            return subprocess.run(check, env=given, capture_output=True, check=False).returncode == 0

        with running(command, given, folder) as written:
            until(is_healthy, written)
            yield Inference(f"http://127.0.0.1:{port}/serve", written)


@dataclass(frozen=True, slots=True)
class Inference:
    """A running inference service; `written` gives its output, `statuses` are those of all that was asked."""

    address: str
    written: Callable[[], str]
    statuses: list[int] = field(default_factory=list)

    def ask(self, endpoint: str, body: Any) -> tuple[int, Any]:
        """The status and the decoded reply of one request; `endpoint` is `name/version`. Threads may ask together."""
        status, reply = self._ask(endpoint, body)
        self.statuses.append(status)
        return status, reply

    def _ask(self, endpoint: str, body: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/{endpoint}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")


def _command(image: Image, environment: Mapping[str, str], *arguments: str) -> str:
    command = [str(image.python), "-m", "clearml_serving", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
