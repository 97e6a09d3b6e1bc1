"""A training child computes only while its lease holds, whoever of its keepers is killed or stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import has_ended
from tests.timing import in_time
from trainyard_runtime.clock import steady
from trainyard_trainer_worker import watchdog
from trainyard_trainer_worker.guard import PROGRAM, Guard
from trainyard_trainer_worker.lease import Lease

BUSY = "while True: pass"
FAMILY = f"""
import subprocess, sys
own = subprocess.Popen([sys.executable, "-c", {BUSY!r}])
other = subprocess.Popen([sys.executable, "-c", {BUSY!r}], start_new_session=True)
print(own.pid, other.pid, flush=True)
{BUSY}
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - it waits for other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"within {timeout_s:g} s never: {what}") from None


def stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def computes(pid: int) -> bool:
    before = cpu_s(pid)
    time.sleep(0.15)
    return cpu_s(pid) > before


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def test_a_child_is_frozen_when_its_lease_expires_and_thawed_when_it_is_renewed(
    child: subprocess.Popen[bytes],
) -> None:
    async def scenario() -> None:
        lease = Lease(3.0, steady())
        async with Guard(lease, child.pid):
            await until(lambda: computes(child.pid), "it computes")
            await until(lambda: stopped(child.pid), "it is frozen")
            assert steady() >= lease.expires_at
            assert not computes(child.pid)
            lease.renew(steady())
            await until(lambda: computes(child.pid), "it computes again")
        await until(lambda: child.poll() is not None, "what is left is killed at the end")

    run(scenario)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_watchdog_that_is_killed_or_stopped_is_no_hole_while_the_worker_lives(
    child: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    async def scenario() -> None:
        lease = Lease(1.0, steady())
        guard = Guard(lease, child.pid)
        async with guard:
            await until(lambda: guard.watchdog_pid is not None, "there is a watchdog")
            first = guard.watchdog_pid
            assert first is not None
            os.kill(first, number)
            await until(lambda: stopped(child.pid), "it is frozen")
            lease.renew(steady())
            await until(lambda: not stopped(child.pid), "it is thawed")
            if number is signal.SIGKILL:
                await until(lambda: guard.watchdog_pid not in (None, first), "there is another watchdog")

    run(scenario)


def test_a_watchdog_freezes_by_itself_where_the_worker_is_stopped_and_kills_where_it_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import asyncio, subprocess, sys\n"
        "from trainyard_runtime.clock import steady\n"
        "from trainyard_trainer_worker.guard import Guard\n"
        "from trainyard_trainer_worker.lease import Lease\n"
        "async def main():\n"
        f"    child = subprocess.Popen([sys.executable, '-c', {BUSY!r}], start_new_session=True)\n"
        "    lease = Lease(1.5, steady())\n"
        "    async with Guard(lease, child.pid):\n"
        "        print(child.pid, flush=True)\n"
        "        while True:\n"
        "            await asyncio.sleep(0.3)\n"
        "            lease.renew(steady())\n"
        "asyncio.run(main())\n"
    )
    worker = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())

        async def scenario() -> None:
            await asyncio.sleep(2.0)
            assert not stopped(pid), "it is renewed"
            worker.send_signal(signal.SIGSTOP)
            await until(lambda: stopped(pid), "the watchdog froze it")
            worker.send_signal(signal.SIGCONT)
            await until(lambda: not stopped(pid), "the worker came back and renewed")
            worker.kill()
            await until(lambda: has_ended(pid), "it is killed")

        run(scenario)
    finally:
        for one in psutil.Process(worker.pid).children():
            one.kill()
        worker.kill()
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


def test_inside_the_guard_there_is_no_moment_without_a_watchdog_that_knows_the_lease(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import asyncio, os, signal, subprocess, sys\n"
        "from trainyard_runtime.clock import steady\n"
        "from trainyard_trainer_worker.guard import Guard\n"
        "from trainyard_trainer_worker.lease import Lease\n"
        "async def main():\n"
        f"    child = subprocess.Popen([sys.executable, '-c', {BUSY!r}], start_new_session=True)\n"
        "    print(child.pid, flush=True)\n"
        "    async with Guard(Lease(1.0, steady()), child.pid):\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "asyncio.run(main())\n"
    )
    worker = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())

        async def scenario() -> None:
            await until(lambda: stopped(worker.pid), "the worker stands still")
            await until(lambda: stopped(pid), "the watchdog froze the child")
            worker.kill()
            await until(lambda: has_ended(pid), "it is killed")

        run(scenario)
    finally:
        for one in psutil.Process(worker.pid).children():
            one.kill()
        worker.kill()
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


@pytest.mark.parametrize("turns", range(5))
def test_a_lease_that_is_renewed_as_the_child_ends_holds_the_end_up_for_no_moment(
    child: subprocess.Popen[bytes], turns: int
) -> None:
    async def scenario() -> None:
        lease = Lease(60.0, steady())
        async with asyncio.timeout(30):
            async with Guard(lease, child.pid):
                await asyncio.sleep(0.1)  # until the second line waits; earlier would be no harder
                lease.renew(steady())
                for _ in range(turns):
                    await asyncio.sleep(0)

    run(scenario)
    assert child.wait(10) == -signal.SIGKILL


def test_where_no_watchdog_can_be_started_the_child_is_let_go_and_the_workers_own_timer_holds(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_thread)

    async def scenario() -> None:
        async with asyncio.timeout(30):
            async with Guard(Lease(0.5, steady()), child.pid):
                await until(lambda: stopped(child.pid), "it is frozen")

    run(scenario)


def test_descendants_are_frozen_and_killed_too_also_in_a_session_of_their_own() -> None:
    parent = subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as output:
        family = [parent.pid, *map(int, output.readline().split())]

    async def scenario() -> None:
        lease = Lease(0.3, steady())
        async with Guard(lease, parent.pid):
            await until(lambda: all(stopped(pid) for pid in family), "all are frozen")
        await until(lambda: parent.poll() is not None, "the parent is killed")

        await until(lambda: all(has_ended(pid) for pid in family[1:]), "its descendants are killed")

    run(scenario)


@pytest.mark.timed
def test_a_watchdog_is_small_and_starts_at_once(child: subprocess.Popen[bytes]) -> None:
    process = subprocess.Popen([*PROGRAM, str(child.pid), "0.0"], stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        began = time.monotonic()
        while not stopped(child.pid):
            in_time(5.0, time.monotonic() - began)
        memory = psutil.Process(process.pid).memory_info().rss
        assert memory < 20 << 20
        process.stdin.close()
        process.wait(10)
        in_time(5.0, time.monotonic() - began)
    finally:
        process.kill()
        process.wait()
    assert child.wait(10) == -signal.SIGKILL, "its input ended, so its worker is gone"


@pytest.mark.parametrize(
    ("expires_at", "frozen", "expected"),
    [
        (10.5, False, 0.5),
        (99.0, False, watchdog.LOOK_EVERY_S),
        (9.0, False, 0.0),
        (9.0, True, None),
        (12.0, True, None),
    ],
)
def test_what_the_watchdog_waits_for(expires_at: float, frozen: bool, expected: float | None) -> None:
    assert watchdog.wait_s(expires_at, 10.0, frozen) == expected
