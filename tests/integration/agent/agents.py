"""A real clearml-agent process with a home, a `clearml.conf` and a worker's name of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.behaviour.clearml.server import ClearMLServer

CONF = """
api {{
  api_server: "{api}", web_server: "{api}", files_server: "{files}"
  credentials {{ access_key: "{access_key}", secret_key: "{secret_key}" }}
}}
agent {{ polling_interval: 0.5 }}
"""
COMMAND = (sys.executable, "-c", "from clearml_agent.__main__ import main; main()")
WITHOUT_INSTALLING = {"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"}
"""The agent's own interpreter runs the task: nothing is installed, and no package index is asked."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent. `worker` is its name in ClearML."""

    popen: subprocess.Popen[bytes]
    worker: str
    log_path: Path

    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """End it and all that it started, as the end of its host does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)


@contextmanager
def agent(
    server: ClearMLServer, folder: Path, worker: str, *arguments: str, environment: Mapping[str, str]
) -> Iterator[Agent]:
    """`clearml-agent *arguments` for as long as the block runs, with its home in `folder/worker`."""
    home = folder / worker
    (home / "tmp").mkdir(parents=True)
    conf = home / "clearml.conf"
    conf.write_text(
        CONF.format(api=server.api, files=server.files, access_key=server.access_key, secret_key=server.secret_key)
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINYARD_", "CLEARML_", "TRAINS_"))}
    own = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "CLEARML_CONFIG_FILE": str(conf),
        "CLEARML_WORKER_ID": worker,
        "PYTHONWARNINGS": "ignore",
    }
    log_path = home / "agent.log"
    with log_path.open("wb") as log:
        popen = subprocess.Popen(
            [*COMMAND, *arguments],
            env=kept | own | WITHOUT_INSTALLING | dict(environment),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    found = Agent(popen, worker, log_path)
    try:
        yield found
    finally:
        found.kill()


def daemon(queue: str) -> tuple[str, ...]:
    """The arguments of an agent that serves one queue."""
    return ("daemon", "--queue", queue, "--foreground")
