"""The child's own promise about SIGTERM, kept whatever the code in it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.timing import in_time
from trainyard_trainer_worker.child_process import PROGRAM
from trainyard_trainer_worker.spec import OUTCOME_FILE, AttemptSpec

SETUP = "import time; from trainyard_trainer_worker.training.child import Cancelled, obey_sigterm; obey_sigterm()\n"
READY = "print('ready', flush=True)\n"


@pytest.mark.timed
@pytest.mark.parametrize(
    ("code", "limit_s"),
    [
        ("while True:\n try: time.sleep(60)\n except Exception: pass", 1.0),
        ("while True:\n try: time.sleep(60)\n except BaseException: pass", 2.5),
        ("import ctypes; ctypes.CDLL(None).sleep(60)\ntime.sleep(60)", 2.5),
        ("import threading; t = threading.Thread(target=time.sleep, args=(60,)); t.start(); t.join()", 2.5),
    ],
    ids=["swallows exceptions", "swallows everything", "computes in C", "waits for a thread"],
)
def test_sigterm_ends_the_child(code: str, limit_s: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SETUP + READY + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        started = time.monotonic()
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        assert child.returncode != 0
        in_time(limit_s, time.monotonic() - started)


@pytest.mark.parametrize(("said", "status"), [(b"\n", 1), (b"", 143)], ids=["let go", "wanted no more"])
def test_a_child_computes_nothing_before_its_parent_lets_it(tmp_path: Path, said: bytes, status: int) -> None:
    spec = AttemptSpec("run", 1, "claim", {"trainer": "sklearn"}, str(tmp_path), (), 60.0)
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    command = [*PROGRAM, str(tmp_path / "spec.json"), "--parent-pid", str(os.getpid())]
    assert subprocess.run(command, input=said, timeout=60, check=False).returncode == status
    assert (tmp_path / OUTCOME_FILE).exists() is bool(said)
