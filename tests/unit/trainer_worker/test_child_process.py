"""The parent's side against small scripts that misbehave in one way each."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.timing import in_time
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_events import ChildEvent, Console, Scalar
from trainyard_trainer_worker.child_output import CONSOLE_HEAD_BYTES, CONSOLE_TAIL_LINES
from trainyard_trainer_worker.child_process import TrainingChild
from trainyard_trainer_worker.spec import AttemptSpec, Failed, Outcome, Stopped
from trainyard_trainer_worker.usage import oom_kills

READY = "print('ready', flush=True)\n"


@dataclass
class Seen:
    """What one child did."""

    outcome: Outcome
    events: list[ChildEvent] = field(default_factory=list)
    seconds: float = 0.0
    pid: int = 0

    @property
    def console(self) -> list[str]:
        return [e.line for e in self.events if isinstance(e, Console)]


def run(
    tmp_path: Path,
    script: str,
    deadline_s: float = 20.0,
    environment: dict[str, str] | None = None,
    when_ready: Callable[[TrainingChild], None] | None = None,
    stop: Reason | None = None,
    memory_limit_bytes: int | None = None,
) -> Seen:
    program: Sequence[str] = (sys.executable, "-c", script)
    work_dir = str(tmp_path / "work")
    spec = AttemptSpec("r", 1, "c", {}, work_dir, (), deadline_s, memory_limit_bytes=memory_limit_bytes)

    async def scenario() -> Seen:
        started = time.monotonic()
        child = await TrainingChild.start(spec, environment, program)
        child.begin()
        events = []
        async for event in child.events():
            events.append(event)
            if isinstance(event, Console) and event.line == "ready":
                started = time.monotonic()
                if when_ready is not None:
                    when_ready(child)
                if stop is not None:
                    await child.stop(stop)
        outcome = await child.outcome()
        return Seen(outcome, events, time.monotonic() - started, child.pid)

    return asyncio.run(scenario())


def failed(seen: Seen) -> Failed:
    assert isinstance(seen.outcome, Failed)
    return seen.outcome


def gone(pid: int) -> bool:
    """True once the process is neither running nor a zombie of ours."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid):
            return True
        time.sleep(0.01)
    return False


def test_both_streams_and_events_arrive(tmp_path: Path) -> None:
    event = '{"event": "scalar", "title": "t", "series": "s", "value": 1.5, "iteration": 3}'
    script = (
        "import os, sys\n"
        "print('one'); print('two', file=sys.stderr)\n"
        "fd = int(sys.argv[sys.argv.index('--events-fd') + 1])\n"
        f"os.write(fd, b'no event\\n' + {event.encode()!r} + b'\\n')\n"
    )
    seen = run(tmp_path, script)
    assert Console("stdout", "one") in seen.events
    assert Console("stderr", "two") in seen.events
    assert Scalar("t", "s", 1.5, 3) in seen.events


def test_a_child_without_an_outcome_failed_and_its_last_words_are_told(tmp_path: Path) -> None:
    failure = failed(run(tmp_path, "import sys; print('cannot open libx.so', file=sys.stderr); sys.exit(7)"))
    assert (failure.reason, failure.detail) == (Reason.TRAINER_ERROR, "child_died")
    assert "status 7" in failure.message
    assert "cannot open libx.so" in failure.message


def test_a_library_that_got_no_memory_and_ended_the_process_is_believed(tmp_path: Path) -> None:
    said = "OpenBLAS error: Memory allocation still failed after 10 retries, giving up."
    failure = failed(run(tmp_path, f"import os; os.write(1, {said!r}.encode()); os._exit(1)"))
    assert (failure.reason, failure.detail) == (Reason.OUT_OF_MEMORY, "memory")
    assert said in failure.message


def test_a_crash_names_its_signal(tmp_path: Path) -> None:
    assert "SIGSEGV" in failed(run(tmp_path, "import os; os.kill(os.getpid(), 11)")).message


def test_a_kill_that_was_not_ours_is_told_apart_where_the_system_counts_its_own(tmp_path: Path) -> None:
    expected = Reason.OUT_OF_MEMORY if oom_kills() is None else Reason.TRAINER_ERROR
    failure = failed(run(tmp_path, "import os; os.kill(os.getpid(), 9)"))
    assert (failure.reason, failure.detail) == (expected, "child_died")


HOLD = "x = bytearray(b'x' * (60 << 20)); print('holds', flush=True); time.sleep(60)"


def test_processes_that_hold_too_much_together_are_ended_for_it_also_in_other_sessions(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        f"command = [sys.executable, '-c', {'import time; ' + HOLD!r}]\n"
        "ps = [subprocess.Popen(command, start_new_session=True) for _ in range(2)]\n"
        "open('grandchildren', 'w').write(' '.join(str(p.pid) for p in ps))\n" + HOLD
    )
    seen = run(tmp_path, script, memory_limit_bytes=150 << 20)
    assert (failed(seen).reason, failed(seen).detail) == (Reason.OUT_OF_MEMORY, "memory")
    assert f"the limit is {150 << 20} bytes" in failed(seen).message
    assert failed(seen).results["peak_memory_bytes"] > 150 << 20
    assert all(gone(int(pid)) for pid in (tmp_path / "work" / "grandchildren").read_text().split())


def test_one_below_the_limit_is_left_alone(tmp_path: Path) -> None:
    script = "import time; x = bytearray(b'x' * (60 << 20)); time.sleep(1.2); raise SystemExit(5)"
    assert "status 5" in failed(run(tmp_path, script, memory_limit_bytes=150 << 20)).message


def test_the_processors_time_of_a_failure_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    burn = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass\n"
    script = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn.format(0.6)!r}])\n"
        + burn.format(0.4)
        + "x = bytearray(b'x' * (120 << 20)); time.sleep(60)"
    )
    seen = run(tmp_path, script, deadline_s=60, memory_limit_bytes=100 << 20)  # what ends it comes after the burning
    assert failed(seen).reason is Reason.OUT_OF_MEMORY
    assert failed(seen).results["cpu_seconds"] >= 0.9


def test_a_child_that_closes_its_pipes_is_still_heard_of(tmp_path: Path) -> None:
    seen = run(tmp_path, "import os, time; os.closerange(1, 20); time.sleep(0.5); os._exit(9)")
    assert "status 9" in failed(seen).message


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "happy"}', '{"state": "succeeded", "results": {}}'])
def test_a_spoiled_outcome_counts_as_none(tmp_path: Path, content: str) -> None:
    seen = run(tmp_path, f"open('outcome.json', 'w').write({content!r})")
    assert failed(seen).detail == "child_died"


def test_an_outcome_of_an_earlier_attempt_in_the_folder_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    old = {"state": "failed", "reason": "user", "detail": "x", "message": "old", "results": {}, "artifacts": []}
    (tmp_path / "work" / "outcome.json").write_text(json.dumps(old))
    assert failed(run(tmp_path, "")).detail == "child_died"


@pytest.mark.timed
def test_a_stop_ends_a_willing_child_at_once(tmp_path: Path) -> None:
    seen = run(tmp_path, READY + "import time; time.sleep(60)", stop=Reason.USER)
    assert seen.outcome == Stopped(Reason.USER)
    in_time(1.5, seen.seconds)
    assert gone(seen.pid)


@pytest.mark.timed
def test_a_stop_ends_a_child_that_ignores_sigterm_with_its_whole_group(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "deaf = 'import signal, time; signal.signal(15, 1); print(1, flush=True); time.sleep(60)'\n"
        "p = subprocess.Popen([sys.executable, '-c', deaf], stdout=subprocess.PIPE)\n"
        "p.stdout.readline()\n"
        "open('grandchild', 'w').write(str(p.pid))\n" + READY + "time.sleep(60)"
    )
    seen = run(tmp_path, script, stop=Reason.HOST_SHUTDOWN)
    assert seen.outcome == Stopped(Reason.HOST_SHUTDOWN)
    in_time(4, seen.seconds)
    assert gone(seen.pid)
    assert gone(int((tmp_path / "work" / "grandchild").read_text()))


def test_a_frozen_child_can_be_stopped(tmp_path: Path) -> None:
    def freeze(child: TrainingChild) -> None:
        os.kill(child.pid, 19)

    seen = run(tmp_path, READY + "import time; time.sleep(60)", when_ready=freeze, stop=Reason.USER)
    assert seen.outcome == Stopped(Reason.USER)
    assert gone(seen.pid)


def test_the_deadline_ends_the_child_and_says_by_how_much(tmp_path: Path) -> None:
    seen = run(tmp_path, READY + "import time; time.sleep(60)", deadline_s=0.5)
    assert (failed(seen).reason, failed(seen).detail) == (Reason.DEADLINE, "attempt_deadline")
    assert "deadline_s is 0.5" in failed(seen).message
    assert gone(seen.pid)


def test_what_a_child_leaves_behind_in_its_group_is_ended(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('grandchild', 'w').write(str(p.pid))\n"
    )
    run(tmp_path, script)
    assert gone(int((tmp_path / "work" / "grandchild").read_text()))


@pytest.mark.timed
def test_a_descendant_that_left_the_group_does_not_hold_us_up(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(6)'], start_new_session=True)\n"
    )
    in_time(4, run(tmp_path, script).seconds)


def test_a_hundred_megabytes_of_output_are_cut_and_counted_in_bounded_memory(tmp_path: Path) -> None:
    before = psutil.Process().memory_info().rss
    script = "line = 'x' * 999\nfor i in range(100_000): print(line)\nprint('the end')"
    seen = run(tmp_path, script, deadline_s=60)
    assert psutil.Process().memory_info().rss - before < 50 << 20
    kept = sum(len(line) + 1 for line in seen.console)
    assert kept < CONSOLE_HEAD_BYTES + (CONSOLE_TAIL_LINES + 10) * 1_000
    assert seen.console[-1] == "the end"
    notes = [e.line for e in seen.events if isinstance(e, Console) and e.stream == "trainyard"]
    assert len(notes) == 1
    assert int(notes[0].split()[0].strip("[")) > 90_000_000


def test_one_endless_line_and_bytes_that_are_no_text_are_taken(tmp_path: Path) -> None:
    script = "import sys; sys.stdout.buffer.write(b'\\xff\\x00' + b'y' * 10_000_000 + b'\\n25%\\r50%\\r100%\\n')"
    seen = run(tmp_path, script)
    assert seen.console[0].startswith("\\xff\x00yyy")
    assert max(map(len, seen.console)) <= 4_100
    assert seen.console[-1] == "100%"


def test_the_child_sees_no_secret_of_ours(tmp_path: Path) -> None:
    secrets = ["CLEARML_API_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "TRAINYARD_KAFKA_PASSWORD", "MY_TOKEN", "HTTPS_PROXY"]
    environment = {**os.environ, **dict.fromkeys(secrets, "planted-secret")}
    script = "import os; print(dict(os.environ))"
    seen = run(tmp_path, script, environment=environment)
    assert "planted-secret" not in seen.console[0]
    assert "OMP_NUM_THREADS" in seen.console[0]
    assert f"'HOME': '{tmp_path / 'work'}'" in seen.console[0]


def test_a_child_is_let_go_once_and_one_that_never_was_can_be_stopped(tmp_path: Path) -> None:
    script = "import os\nprint(os.read(0, 9), os.read(0, 9), flush=True)"
    spec = AttemptSpec("r", 1, "c", {}, str(tmp_path / "work"), (), 60.0)

    async def scenario() -> None:
        child = await TrainingChild.start(spec, None, (sys.executable, "-c", script))
        child.begin()
        child.begin()
        assert [event async for event in child.events()] == [Console("stdout", "b'\\n' b''")]
        await child.outcome()
        child.begin()
        held = await TrainingChild.start(spec, None, (sys.executable, "-c", script))
        await held.stop(Reason.USER)
        assert await held.outcome() == Stopped(Reason.USER)
        assert [event async for event in held.events()] == []

    asyncio.run(scenario())


def test_a_program_that_does_not_exist_is_an_error_of_the_start(tmp_path: Path) -> None:
    spec = AttemptSpec("r", 1, "c", {}, str(tmp_path / "work"), (), 5.0)
    with pytest.raises(FileNotFoundError):
        asyncio.run(TrainingChild.start(spec, None, (str(tmp_path / "absent"),)))
