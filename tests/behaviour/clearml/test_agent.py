"""The unmodified clearml-agent against the server: what it does to a task that asks it to install nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.behaviour.clearml.raw import Made, Raw, eventually
from tests.integration.agent.agents import agent, daemon

FINISHED = ("completed", "failed", "stopped")


def script(code: str) -> dict[str, object]:
    """A task's script that needs nothing but Python; the agent writes `diff` to the file."""
    requirements = {"pip": ""}
    return {
        "binary": "python",
        "entry_point": "body.py",
        "working_dir": ".",
        "requirements": requirements,
        "diff": code,
    }


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print(6 * 7)", "completed", "42"),
        ("raise SystemExit(3)", "failed", "exit code 3"),
        ("raise SystemExit(254)", "stopped", "Process terminated by user"),
    ],
)
def test_a_daemon_takes_a_task_to_the_status_of_its_exit(
    raw: Raw, made: Made, tmp_path: Path, code: str, status: str, said: str
) -> None:
    queue = made.queue()
    task = made.task(script=script(code))
    raw.ok("tasks.enqueue", task=task, queue=queue)
    with agent(raw.server, tmp_path, f"agent-{task[:8]}", *daemon(queue), environment={}) as served:
        found = eventually(lambda: raw.task(task), lambda now: now["status"] in FINISHED, deadline_s=120)
        assert found["status"] == status, served.log()[-2000:]
        console = eventually(lambda: _console(raw, task), lambda text: said in text, deadline_s=60)
        assert not re.search(r"\b501\b", console)  # a port may hold these digits
        workers = raw.ok("workers.get_all")["workers"]
        assert served.worker in [worker["id"] for worker in workers]
    assert "is not implemented" not in served.log()
    assert raw.entries(queue) == []


def test_execute_runs_one_task_by_its_id(raw: Raw, made: Made, tmp_path: Path) -> None:
    task = made.task(script=script("print(6 * 7)"))
    with agent(raw.server, tmp_path, f"agent-{task[:8]}", "execute", "--id", task, environment={}) as served:
        assert served.popen.wait(120) == 0, served.log()[-2000:]
    assert raw.task(task)["status"] == "completed"
    assert "is not implemented" not in served.log()


def _console(raw: Raw, task: str) -> str:
    events = raw.ok("events.get_task_log", task=task, batch_size=500)["events"]
    return "\n".join(event["msg"] for event in events)
