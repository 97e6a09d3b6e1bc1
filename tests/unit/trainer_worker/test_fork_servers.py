"""Children from a fork server: in an instant, with everything loaded, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from tests.timing import in_time
from tests.unit.trainer_worker.test_guard import until
from trainyard_trainer_worker import fork_servers
from trainyard_trainer_worker.fork_servers import LOST, ForkedChild, ForkServer, ForkServers, ForkServerUnavailable
from trainyard_trainer_worker.spec import AttemptSpec
from trainyard_trainer_worker.training.environment import child_environment


def spec_path(folder: Path, body: str) -> Path:
    """What `training.child` reads; one that is no spec makes it end at once, with its message on standard error."""
    path = folder / "spec.json"
    path.write_text(body)
    return path


async def fork(server: ForkServer, folder: Path, body: str = "{}", *, ended: bool = False) -> tuple[int, bytes]:
    """Fork a child on a broken spec; its status, and what it said, unless it has `ended` before it was one."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(4)]
    environment = child_environment(os.environ, str(folder), 1)
    try:
        child = await server.fork([str(spec_path(folder, body))], environment, str(folder), [w for _, w in pipes])
    finally:
        for _, writer in pipes:
            os.close(writer)
    status = await asyncio.wait_for(child.wait(), 30)
    said = b"" if ended else os.read(pipes[3][0], 1 << 16)
    for reader, _ in pipes:
        os.close(reader)
    return status, said


def with_server(trainer: str, scenario: Callable[[ForkServer], Awaitable[None]], python: str = sys.executable) -> None:
    async def main() -> None:
        server = ForkServer(Path(folder), trainer, python, 1)
        try:
            await scenario(server)
        finally:
            pid = server.pid
            await server.close()
            assert pid is None or not psutil.pid_exists(pid)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main())
        assert not list(Path(folder).iterdir()), "a closed server leaves nothing"


@pytest.mark.timed
def test_a_second_child_needs_no_imports_and_each_says_how_it_ended(tmp_path: Path) -> None:
    async def scenario(server: ForkServer) -> None:
        await server.warm()
        first = server.pid
        began = time.monotonic()
        status, said = await fork(server, tmp_path)
        in_time(1.0, time.monotonic() - began)  # a child that imports scikit-learn takes seconds
        assert status == 1
        assert b"KeyError" in said
        assert (await fork(server, tmp_path, "[]"))[0] == 1
        assert server.pid == first

    with_server("sklearn", scenario)


async def waiting_child(server: ForkServer, folder: Path) -> ForkedChild:
    """A child that waits for a spec that nobody writes."""
    fifo = folder / "spec.fifo"
    os.mkfifo(fifo)
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(4)]
    try:
        environment = child_environment(os.environ, str(folder), 1)
        return await server.fork([str(fifo)], environment, str(folder), [w for _, w in pipes])
    finally:
        for reader, writer in pipes:
            os.close(reader)
            os.close(writer)


def test_a_child_leads_a_group_of_its_own_in_its_own_folder(tmp_path: Path) -> None:
    async def scenario(server: ForkServer) -> None:
        child = await waiting_child(server, tmp_path)
        await until(lambda: psutil.Process(child.pid).cwd() == str(tmp_path), "it is in its folder")
        assert os.getpgid(child.pid) == child.pid

    with_server("sklearn", scenario)


def test_children_die_with_their_server_and_the_next_one_gets_a_new_server(tmp_path: Path) -> None:
    async def scenario(server: ForkServer) -> None:
        child = await waiting_child(server, tmp_path)
        assert psutil.pid_exists(child.pid)
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert await asyncio.wait_for(child.wait(), 10) == LOST
        await until(lambda: not psutil.pid_exists(child.pid), "the child is gone")
        assert (await fork(server, tmp_path))[0] == 1
        assert server.pid not in (None, first)

    with_server("sklearn", scenario)


def test_a_child_of_a_server_that_hangs_is_seen_to_end_and_the_next_one_gets_a_new_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(server: ForkServer) -> None:
        child = await waiting_child(server, tmp_path)
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        os.kill(child.pid, signal.SIGKILL)
        assert await asyncio.wait_for(child.wait(), 10) == LOST
        with monkeypatch.context() as patch:
            patch.setattr(fork_servers, "FORK_S", 1.0)
            with pytest.raises(ForkServerUnavailable, match="made no child"):
                await fork(server, tmp_path)
        assert (await fork(server, tmp_path))[0] == 1
        await until(lambda: not psutil.pid_exists(first) and not psutil.pid_exists(child.pid), "both are gone")

    with_server("sklearn", scenario)


def test_a_child_that_has_ended_before_its_start_was_noticed_is_given_with_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker stood still meanwhile: both messages are read in one step."""

    async def scenario(server: ForkServer) -> None:
        await server.warm()

        def told_both(*_: object) -> int:
            server._take({"pid": 1 << 30})
            server._take({"ended": 1 << 30, "status": 7})
            return 0

        monkeypatch.setattr(socket, "send_fds", told_both)
        assert (await fork(server, tmp_path, ended=True))[0] == 7

    with_server("sklearn", scenario)


def test_a_server_that_cannot_be_started_for_want_of_a_folder_is_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ForkServerUnavailable, match="cannot be started"):
            await ForkServer(tmp_path / "absent", "sklearn", sys.executable, 1).warm()

    asyncio.run(main())


DAEMON = """
import pathlib, subprocess
daemon = subprocess.Popen(["sleep", "60"], start_new_session=True)
pathlib.Path("left.partial").write_text(str(daemon.pid))
pathlib.Path("left.partial").rename("left")
"""
PLANTED = f"""
import pathlib, subprocess, sys, time
from trainyard_trainer_worker.training import fork_server, phases

def run(spec, emitter, clean_process):
    pathlib.Path("clean").write_text(str(clean_process.pid))
    subprocess.run([sys.executable, "-c", {DAEMON!r}])
    time.sleep(60)

phases.run, fork_server.preload = run, lambda _: None
sys.exit(fork_server.main(sys.argv[3:]))
"""


def test_what_an_ended_child_left_in_another_session_is_killed_and_nothing_of_one_that_lives(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/planted.py "$@"\n')
    python.chmod(0o755)

    async def daemon_of(server: ForkServer, folder: Path) -> tuple[ForkedChild, int]:
        """A child that has left a process in a session of its own, whose parent has ended."""
        os.mkdir(folder)  # noqa: PTH102 - a coroutine makes no folder with pathlib
        spec = json.dumps(AttemptSpec("r", 1, "c", {}, str(folder), (), 60.0).to_json())
        environment = child_environment(os.environ, str(folder), 1)
        nothing = os.open(os.devnull, os.O_WRONLY)
        stdin, go = os.pipe2(os.O_CLOEXEC)
        os.write(go, b"\n")
        os.close(go)
        child = await server.fork([str(spec_path(folder, spec))], environment, str(folder), [stdin, *[nothing] * 3])
        os.close(stdin)
        os.close(nothing)
        await until((folder / "left").exists, "it has left a process behind")
        return child, int((folder / "left").read_text())

    async def scenario(server: ForkServer) -> None:
        ends, left_by_it = await daemon_of(server, tmp_path / "ends")
        lives, left_by_the_other = await daemon_of(server, tmp_path / "lives")
        clean, the_others_clean = (int((tmp_path / of / "clean").read_text()) for of in ("ends", "lives"))
        assert psutil.Process(clean).ppid() == ends.pid
        await until(lambda: psutil.Process(left_by_it).ppid() == ends.pid, "it is that child's")
        os.kill(ends.pid, signal.SIGKILL)
        assert await asyncio.wait_for(ends.wait(), 10) == -signal.SIGKILL
        await until(lambda: not psutil.pid_exists(left_by_it), "what the ended child left is gone")
        await until(lambda: not psutil.pid_exists(clean), "its clean process is gone")
        assert psutil.Process(the_others_clean).ppid() == lives.pid
        await until(lambda: psutil.Process(left_by_the_other).ppid() == lives.pid, "it is the living child's")
        await server.close()
        await until(lambda: not psutil.pid_exists(left_by_the_other), "what the living one left is gone")
        await until(lambda: not psutil.pid_exists(the_others_clean), "all is gone with the server")

    with_server("sklearn", scenario, str(python))


def test_closing_the_servers_ends_children_that_still_run(tmp_path: Path) -> None:
    async def main() -> None:
        servers = ForkServers(tmp_path, 1, {})
        child = await waiting_child(servers.of("sklearn"), tmp_path)
        await servers.close()
        assert await child.wait() == LOST
        await until(lambda: not psutil.pid_exists(child.pid), "the child is gone")

    asyncio.run(main())


def test_an_interpreter_that_does_not_exist_or_has_no_trainyard_is_unavailable_and_preloading_goes_on(
    tmp_path: Path,
) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)

    async def main() -> None:
        servers = ForkServers(tmp_path, 1, {"flaml": tmp_path / "absent", "autogluon": bare})
        try:
            for trainer in ("flaml", "autogluon"):
                with pytest.raises(ForkServerUnavailable, match=trainer):
                    await servers.of(trainer).warm()
            await servers.preload(["flaml", "sklearn"])
            assert servers.of("sklearn").pid is not None
        finally:
            await servers.close()

    asyncio.run(main())


def test_a_wait_that_is_given_up_leaves_the_server_loading_and_the_next_one_waits_for_it() -> None:
    async def scenario(server: ForkServer) -> None:
        first = asyncio.create_task(server.warm())
        await until(lambda: server.pid is not None, "the server is being started")
        pid = server.pid
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled(), "it was loading still"
        assert not server.is_ready
        await server.warm()
        assert server.is_ready
        assert server.pid == pid

    with_server("sklearn", scenario)
