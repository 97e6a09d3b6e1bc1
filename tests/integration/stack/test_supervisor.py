"""The supervisor on real Kafka and the real embedded ClearML API; the services are stand-ins."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from tests.processes import has_ended
from trainyard_devstack.commands import as_text
from trainyard_devstack.control import StackStatus, drain_worker, stack_status, start_stack, stop_stack
from trainyard_devstack.errors import DevstackError
from trainyard_devstack.home_files import running_supervisor
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_devstack.settings import StackSettings
from trainyard_devstack.stack import Home
from trainyard_runtime.kafka.admin import broker_answers
from trainyard_schemas.topics import TOPICS

SCRIPT = Path(__file__).with_name("run_supervisor.py")
DEADLINE_S = 60.0


class Running:
    """A supervisor process and the way to ask about its stack."""

    def __init__(self, home: Path, *flags: str) -> None:
        self.settings = StackSettings(home=home, ready_timeout_s=DEADLINE_S)
        home.mkdir(exist_ok=True)
        with (home / "supervisor.out").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), *flags],
                env={**os.environ, "TRAINYARD_HOME": str(home), "TRAINYARD_DATA_ROOTS": "/some/data"},
                stdout=out,
                stderr=out,
            )

    def status(self) -> StackStatus:
        return stack_status(self.settings)

    def wait_until(self, holds: Callable[[StackStatus], bool]) -> StackStatus:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                status = self.status()
            except DevstackError:
                assert self.process.poll() is None, "the supervisor ended"
            else:
                if holds(status):
                    return status
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.05)

    def children(self) -> dict[int, str]:
        """The supervisor's children: pid and command line."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        found = {}
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def child(self, part: str) -> int:
        (pid,) = [pid for pid, command in self.children().items() if part in command]
        return pid

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            finally:
                self.process.kill()
                self.process.wait()


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while alive := [pid for pid in pids if not has_ended(pid)]:
        assert time.monotonic() < deadline, f"processes {alive} still run"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("home"))
    try:
        running.wait_until(lambda status: status.is_ready)
        yield running
    finally:
        running.end()


def test_the_status_document_has_exactly_the_promised_shape(stack: Running) -> None:
    document = json.loads(json.dumps(stack.wait_until(lambda status: status.is_ready).as_json()))
    assert set(document) == {"kafka", "clearml", "services"}
    assert set(document["kafka"]) == {"bootstrap", "topic_prefix"}
    assert document["kafka"]["topic_prefix"] == "trainyard."
    assert set(document["clearml"]) == {"api", "files", "access_key", "secret_key"}
    assert list(document["services"]) == ["dispatcher", "trainer-worker", "stats"]
    for service in document["services"].values():
        assert set(service) == {"pid", "ready", "address"}
        with urllib.request.urlopen(service["address"]) as answer:
            assert json.load(answer)["pid"] == service["pid"]


def test_a_service_is_told_what_it_needs(stack: Running) -> None:
    status = stack.wait_until(lambda status: status.is_ready)
    with urllib.request.urlopen(status.services["stats"].address) as answer:
        environment = json.load(answer)["environment"]
    assert environment["TRAINYARD_KAFKA_BOOTSTRAP"] == status.bootstrap
    assert environment["CLEARML_API_HOST"] == status.clearml_api
    assert environment["CLEARML_FILES_HOST"] == status.clearml_files
    assert environment["CLEARML_API_SECRET_KEY"] == status.credentials.secret_key
    assert environment["TRAINYARD_STATE_DIR"].endswith("state/stats")
    roots = environment["TRAINYARD_DATA_ROOTS"].split(os.pathsep)
    assert roots[0].endswith("/examples")
    assert roots[1:] == ["/some/data"]


def test_the_keys_can_be_read_by_their_owner_only(stack: Running) -> None:
    assert Home(stack.settings.home).credentials.stat().st_mode & 0o777 == 0o600


def test_every_declared_topic_is_there(stack: Running) -> None:
    admin = KafkaAdminClient(bootstrap_servers=stack.status().bootstrap)
    topics = set(admin.list_topics())
    admin.close()
    assert {topic.full_name("trainyard.") for topic in TOPICS} <= topics


def test_a_killed_service_comes_back_at_its_address(stack: Running) -> None:
    before = stack.wait_until(lambda status: status.is_ready).services["trainer-worker"]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    after = stack.wait_until(lambda s: s.is_ready and s.services["trainer-worker"].pid != before.pid)
    assert after.services["trainer-worker"].address == before.address


def test_a_drained_worker_stays_down_until_the_next_up(stack: Running) -> None:
    before = stack.wait_until(lambda status: status.is_ready).services["trainer-worker"]
    assert before.pid is not None
    with pytest.raises(DevstackError, match=f"is not the stack's trainer worker, which is {before.pid}"):
        drain_worker(stack.settings, before.pid + 1, 1.0)
    assert drain_worker(stack.settings, before.pid, DEADLINE_S)
    drained = stack.wait_until(lambda s: s.services["trainer-worker"].drained)
    assert "drained" in as_text(drained)
    assert drained.services["trainer-worker"].pid is None
    with pytest.raises(DevstackError, match="drained already"):
        drain_worker(stack.settings, None, 1.0)

    # Another death makes the supervisor look after all its services: the drained one is left alone.
    other = drained.services["stats"].pid
    assert other is not None
    os.kill(other, signal.SIGKILL)
    again = stack.wait_until(lambda s: s.services["stats"].ready and s.services["stats"].pid != other)
    assert again.services["trainer-worker"].drained

    status, started = start_stack(stack.settings, print)
    assert (started, status.is_ready) == (False, True)
    assert status.services["trainer-worker"].address == before.address


def test_a_service_that_ends_well_by_itself_is_started_again(stack: Running) -> None:
    before = stack.wait_until(lambda status: status.is_ready).services["trainer-worker"]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGUSR1)  # nobody asked the stack for it
    after = stack.wait_until(lambda s: s.is_ready and s.services["trainer-worker"].pid != before.pid)
    assert not after.services["trainer-worker"].drained


def test_a_killed_clearml_api_comes_back_at_its_address(stack: Running) -> None:
    address = stack.status().clearml_api
    before = stack.child("clearml_api")
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(f"{address}/no-such-call"):
                break
        except urllib.error.HTTPError as answer:
            answer.close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert stack.child("clearml_api") != before
    assert stack.status().clearml_api == address


def test_a_killed_kafka_comes_back_at_its_address(stack: Running) -> None:
    bootstrap = stack.status().bootstrap
    before = stack.child("kafka.Kafka")
    os.kill(before, signal.SIGKILL)
    _wait_until_gone([before])
    deadline = time.monotonic() + DEADLINE_S
    while not broker_answers(bootstrap, timeout_s=1.0):
        assert time.monotonic() < deadline
    assert stack.child("kafka.Kafka") != before
    assert stack.status().bootstrap == bootstrap


def test_a_second_start_uses_the_stack_that_runs(stack: Running) -> None:
    before = stack.wait_until(lambda status: status.is_ready)
    status, started = start_stack(stack.settings, lambda _sentence: None)
    assert not started
    assert status == before


def test_a_second_supervisor_is_refused(stack: Running) -> None:
    second = Running(stack.settings.home)
    assert second.process.wait(30) == 1
    assert "A stack already runs in" in (stack.settings.home / "supervisor.out").read_text(encoding="utf-8")
    assert running_supervisor(Home(stack.settings.home)) == stack.process.pid


def test_wiping_is_refused_while_the_stack_runs(stack: Running) -> None:
    with pytest.raises(DevstackError, match="down` first"):
        start_stack(stack.settings, lambda _sentence: None, fresh=True)
    assert Home(stack.settings.home).kafka.exists()


def test_stopping_ends_every_process_and_keeps_the_addresses(tmp_path: Path) -> None:
    first = Running(tmp_path)
    try:
        before = first.wait_until(lambda status: status.is_ready)
        pids = list(first.children())
        assert len(pids) == 5
        assert stop_stack(first.settings)
        _wait_until_gone(pids)
        assert first.process.wait(5) == 0
        with pytest.raises(DevstackError, match="No stack runs"):
            first.status()
        assert not stop_stack(first.settings)
    finally:
        first.end()
    second = Running(tmp_path)
    try:
        after = second.wait_until(lambda status: status.is_ready)
        assert after.bootstrap == before.bootstrap
        assert after.credentials == before.credentials
        pids = list(second.children())
        second.process.kill()
        _wait_until_gone(pids)
    finally:
        second.end()


def test_a_service_that_cannot_work_is_named_with_its_log(tmp_path: Path) -> None:
    running = Running(tmp_path, "--broken")
    try:
        deadline = time.monotonic() + DEADLINE_S
        log = Home(tmp_path).log_of("stats")  # of a service, which starts after Kafka
        while not (log.exists() and "its setting X is wrong" in log.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        hurried = StackSettings(home=tmp_path, ready_timeout_s=10.0)
        with pytest.raises(DevstackError, match=r"(?s)Not ready within 10 s: .*stats.*its setting X is wrong"):
            start_stack(hurried, lambda _sentence: None)
        assert running.process.poll() is None
    finally:
        running.end()


def test_a_stack_that_others_cannot_see_any_more_ends_itself(tmp_path: Path) -> None:
    running = Running(tmp_path / "home")
    try:
        running.wait_until(lambda status: status.is_ready)
        children = list(running.children())
        Home(running.settings.home).lock.unlink()  # as `rm -r` of the home does
        assert running.process.wait(DEADLINE_S) != 0
        _wait_until_gone(children)
    finally:
        running.end()


def test_topics_that_would_lose_records_stop_the_start_with_the_remedy(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with EmbeddedKafka(home.kafka) as kafka:
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        admin.create_topics({"trainyard.runs.lifecycle": {"num_partitions": 3, "replication_factor": 1}})
        admin.close()
    with pytest.raises(DevstackError, match=r"runs\.lifecycle has 3 partitions .* start with --fresh"):
        start_stack(StackSettings(home=tmp_path, ready_timeout_s=DEADLINE_S), lambda _sentence: None)
    assert running_supervisor(home) is None
