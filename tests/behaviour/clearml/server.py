"""The ClearML server under test: the embedded one in its own process, or one that runs already."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TextIO

from pydantic import SecretStr

from trainyard_runtime.clearml import ClearMLSettings

ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"
"""Of every embedded server in the tests."""

READY_S = 30.0
ENDED_S = 15.0


@dataclass(frozen=True, slots=True)
class ClearMLServer:
    """Where a server is and how to get in."""

    api: str
    files: str
    access_key: str
    secret_key: str

    def settings(self, **changes: object) -> ClearMLSettings:
        """Settings of the REST client for this server."""
        values: dict[str, object] = {
            "api_host": self.api,
            "files_host": self.files,
            "access_key": self.access_key,
            "secret_key": SecretStr(self.secret_key),
        }
        return ClearMLSettings.model_validate(values | changes)

    def environment(self) -> dict[str, str]:
        """What the SDK and our services read."""
        return {
            "CLEARML_API_HOST": self.api,
            "CLEARML_FILES_HOST": self.files,
            "CLEARML_WEB_HOST": self.api,
            "CLEARML_API_ACCESS_KEY": self.access_key,
            "CLEARML_API_SECRET_KEY": self.secret_key,
        }


def server_at(url: str) -> ClearMLServer:
    """A server that runs already; its file server and credentials come from the environment."""
    missing = [
        name
        for name in ("CLEARML_FILES_HOST", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")
        if not os.environ.get(name)
    ]
    if missing:
        raise RuntimeError(f"--clearml={url} needs {', '.join(missing)} in the environment")
    env = os.environ
    return ClearMLServer(
        url.rstrip("/"), env["CLEARML_FILES_HOST"], env["CLEARML_API_ACCESS_KEY"], env["CLEARML_API_SECRET_KEY"]
    )


@contextmanager
def embedded_server(data: Path, *arguments: str) -> Iterator[ClearMLServer]:
    """Start the embedded server on free ports; ended, and checked to end cleanly, on leaving."""
    command = [sys.executable, "-m", "trainyard_devstack.clearml_api", "--data", str(data)]
    process = subprocess.Popen(
        [*command, "--api-port", "0", "--files-port", "0", *arguments],
        env={**os.environ, "CLEARML_API_ACCESS_KEY": ACCESS_KEY, "CLEARML_API_SECRET_KEY": SECRET_KEY},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: SimpleQueue[str] = SimpleQueue()
    stderr = process.stderr
    assert stderr is not None
    reader = threading.Thread(target=_pass_on, args=(stderr, lines), daemon=True)
    reader.start()
    try:
        try:
            listening = json.loads(lines.get(timeout=READY_S))
        except Empty:
            raise AssertionError(f"the embedded server said nothing for {READY_S} s") from None
        yield ClearMLServer(listening["api"], listening["files"], ACCESS_KEY, SECRET_KEY)
    finally:
        process.terminate()
        try:
            assert process.wait(timeout=ENDED_S) == 0
        finally:
            process.kill()
            process.wait()
            reader.join(timeout=5)
            stderr.close()


def _pass_on(stream: TextIO, lines: SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)
