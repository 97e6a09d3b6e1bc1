"""From a task's enqueueing to the first line of its code under an ordinary clearml-agent that installs nothing."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench._stand import KEYS, DirectClient, answers, free_ports, process, wait_until

POLLING_S = 5.0
_QUEUE = "agent"
_SCRIPT = {
    "binary": "python",
    "entry_point": "-m timeit -n 1 -r 1 -s 'import time' 'print(\"first line at\", time.time())'",
    "working_dir": ".",
    "requirements": {"pip": ""},
}
_FIRST_LINE = re.compile(r"first line at (\d+\.\d+)")


@contextlib.contextmanager
def _agent(home: Path, api: str, files: str, polling_s: float) -> Iterator[None]:
    """An ordinary agent that serves the queue."""
    conf = home / "clearml.conf"
    conf.write_text(
        f'api {{ api_server: "{api}", web_server: "{api}", files_server: "{files}", credentials {{ '
        f'access_key: "{KEYS["CLEARML_API_ACCESS_KEY"]}", secret_key: "{KEYS["CLEARML_API_SECRET_KEY"]}" }} }}\n'
        f"agent {{ polling_interval: {polling_s} }}\n"
    )
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "CLEARML_CONFIG_FILE": str(conf),
        "CLEARML_WORKER_ID": "bench-agent",
        "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1",
    }
    command = [sys.executable, "-c", "from clearml_agent.__main__ import main; main()"]
    with (home / "agent.log").open("wb") as log:
        child = subprocess.Popen(
            [*command, "daemon", "--queue", _QUEUE, "--foreground"],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            child.kill()
            child.wait()


def _first_line_at(client: DirectClient, task: str) -> float | None:
    events = client.call("events.get_task_log", {"task": task, "batch_size": 500})["events"]
    found = _FIRST_LINE.search("\n".join(event["msg"] for event in events))
    return float(found[1]) if found else None


def measure(api: str, files: str, home: Path, tasks: int, polling_s: float) -> dict[str, Any]:
    """Run so many tasks under an agent of its own on this server, one after the other; their waits in seconds."""
    client = DirectClient(api)
    queue = client.call("queues.create", {"name": _QUEUE})["id"]
    waits_s: list[float] = []
    with _agent(home, api, files, polling_s):
        wait_until(lambda: _is_registered(client), "the agent is registered", 120)
        for number in range(tasks):
            body = {"name": f"bench {number}", "type": "training", "script": _SCRIPT}
            task = client.call("tasks.create", body)["id"]
            client.call("tasks.enqueue", {"task": task, "queue": queue})
            enqueued_at = time.time()
            wait_until(lambda task=task: _first_line_at(client, task) is not None, "the first line", 120)  # type: ignore[misc]
            waits_s.append((_first_line_at(client, task) or 0.0) - enqueued_at)
    return {
        "tasks": tasks,
        "agent_polling_s": polling_s,
        "enqueued_to_first_line_median_s": round(statistics.median(waits_s), 2),
        "fastest_s": round(min(waits_s), 2),
        "slowest_s": round(max(waits_s), 2),
    }


def _is_registered(client: DirectClient) -> bool:
    workers = client.call("workers.get_all", {})["workers"]
    return any(str(found["id"]).startswith("bench-agent") for found in workers)


def main() -> int:
    """Print one line. There is no bound: this is what a native worker is compared with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--polling-s", type=float, default=POLLING_S, help="the agent's own default is 5 s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        api_port, files_port = free_ports(2)
        api, files = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{files_port}"
        arguments = ["--api-port", str(api_port), "--files-port", str(files_port), "--data", str(home / "clearml")]
        server = process("trainyard_devstack.clearml_api", *arguments, environment=KEYS, log=home / "clearml.log")
        with server:
            wait_until(lambda: answers(f"{api}/debug.ping"), "ClearML API ready", 60)
            figures = measure(api, files, home, int(options.tasks), float(options.polling_s))
    print(json.dumps({"bench": "agent", **figures, "ok": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
