"""Start, ask and stop a stack from another process: what `up`, `status`, `down` and the demo stand on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from trainyard_devstack.children import last_lines
from trainyard_devstack.errors import ConfigurationError, DevstackError
from trainyard_devstack.home_files import (
    StackRecord,
    ask_to_drain,
    make_home,
    read_credentials,
    read_record,
    running_supervisor,
    wipe_data,
)
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_devstack.settings import StackSettings
from trainyard_devstack.stack import PAGE, Credentials, Home

PROBE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 25.0
WORKER = "trainer-worker"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service now: the pid of its own process (None between a death and the restart, and where it is drained), its
    URL, whether it works."""

    pid: int | None
    ready: bool
    address: str
    drained: bool = False

    @property
    def word(self) -> str:
        """`ready`, `drained` or `NOT READY`."""
        return "ready" if self.ready else "drained" if self.drained else "NOT READY"


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A running stack."""

    bootstrap: str
    topic_prefix: str
    clearml_api: str
    clearml_files: str
    credentials: Credentials
    services: dict[str, ServiceStatus]

    @property
    def page(self) -> str | None:
        """The run page's URL; None where it is not served now."""
        service = self.services.get(PAGE)
        return f"{service.address}/" if service is not None and service.ready else None

    @property
    def is_ready(self) -> bool:
        """Whether every service is."""
        return bool(self.services) and all(service.ready for service in self.services.values())

    def as_json(self) -> dict[str, Any]:
        """The document of `status --json`."""
        return {
            "kafka": {"bootstrap": self.bootstrap, "topic_prefix": self.topic_prefix},
            "clearml": {
                "api": self.clearml_api,
                "files": self.clearml_files,
                "access_key": self.credentials.access_key,
                "secret_key": self.credentials.secret_key,
            },
            "services": {
                name: {
                    "pid": service.pid,
                    "ready": service.ready,
                    **({"drained": True} if service.drained else {}),
                    "address": service.address,
                }
                for name, service in self.services.items()
            },
        }


@dataclass(frozen=True, slots=True)
class StoppedStack:
    """A stack that was ended: the pid of its supervisor, and its services that ran, besides Kafka and ClearML."""

    supervisor: int
    services: tuple[str, ...]


def stack_status(settings: StackSettings) -> StackStatus:
    """The running stack, its services asked for their readiness now. Raises DevstackError when none runs."""
    home = Home(settings.home)
    supervisor = running_supervisor(home)
    if supervisor is None:
        raise DevstackError(f"No stack runs in {home.path}: start it with `./trainyard up --detach`.")
    record = _record_of(home, supervisor)
    if record is None or not record.services:
        raise DevstackError(f"The stack in {home.path} is still starting: ask again in a few seconds.")
    return _probe(home, record)


def tell_when_ready(settings: StackSettings, tell: Callable[[StackStatus], None], ended: threading.Event) -> None:
    """Call `tell` once every service of the stack that this very process supervises is ready; return then, or when
    `ended` is set."""
    home = Home(settings.home)
    while not ended.wait(0.2):
        record = _record_of(home, os.getpid())
        if record is not None and record.services and (status := _probe(home, record)).is_ready:
            tell(status)
            return


def start_stack(
    settings: StackSettings, notify: Callable[[str], None], *, fresh: bool = False
) -> tuple[StackStatus, bool]:
    """Have a stack that is ready, and whether this call started it.

    Starts a supervisor in the background unless one runs. Raises DevstackError, naming what is not ready and the end of
    its log, when the time is up; and when `fresh` is asked for while a stack runs.
    """
    home = Home(settings.home)
    deadline = time.monotonic() + settings.ready_timeout_s
    if (running := running_supervisor(home)) is not None:
        record = _record_of(home, running)
        if record is not None and record.ending and _wait_until_released(home, STOP_TIMEOUT_S):
            return start_stack(settings, notify, fresh=fresh)
        if fresh:
            raise _fresh_while_running(home)
        if record is not None and record.drained:
            notify(f"Starting again what was drained: {', '.join(record.drained)}.")
            _signal(running, signal.SIGUSR1)
        return _wait_until_ready(settings, home, None, deadline), False
    prepare(settings, notify, fresh=fresh)
    deadline = time.monotonic() + settings.ready_timeout_s
    with home.log_of("supervisor").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "trainyard_devstack.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TRAINYARD_HOME": str(home.path)},
            start_new_session=True,
        )
    status = _wait_until_ready(settings, home, supervisor, deadline)
    started = supervisor.poll() is None
    supervisor.returncode = 0  # it lives on without us: Popen must neither wait for it nor warn
    return status, started


def prepare(settings: StackSettings, notify: Callable[[str], None], *, fresh: bool) -> None:
    """What a start needs first: folders, Kafka (got ready once, told by `notify`), and no data if `fresh`."""
    home = Home(settings.home)
    make_home(home)
    if fresh:
        if running_supervisor(home) is not None:
            raise _fresh_while_running(home)
        wipe_data(home)
    EmbeddedKafka(home.kafka, notify=notify).prepare()
    free_mb = shutil.disk_usage(home.path).free // 2**20
    if free_mb < 500:
        raise DevstackError(f"The stack needs 500 MB free in {home.path}, and there are {free_mb} MB: free some space.")


def drain_worker(settings: StackSettings, pid: int | None, timeout_s: float | None) -> bool:
    """Have the stack's trainer worker finish what it trains, take no more, and end; `pid` must be its, where given.

    Waits for its end, `timeout_s` seconds at most, and returns whether it has ended. Raises DevstackError where no
    stack runs, or no worker of it, or not with this pid.
    """
    home = Home(settings.home)
    service = stack_status(settings).services.get(WORKER)
    if service is None or service.drained:
        raise DevstackError("The stack's trainer worker is drained already; `trainyard up --detach` starts it again.")
    if service.pid is None:
        raise DevstackError("The stack's trainer worker is down at this moment: see `trainyard status`.")
    if pid is not None and pid != service.pid:
        raise DevstackError(
            f"Process {pid} is not the stack's trainer worker, which is {service.pid}; a worker elsewhere is drained by"
            f" `kill -USR1 {pid}` on its own host."
        )
    try:
        ask_to_drain(home, WORKER, service.pid)
    except ProcessLookupError as error:
        raise DevstackError("The stack's trainer worker has just ended: see `trainyard status`.") from error
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while deadline is None or time.monotonic() < deadline:
        running = running_supervisor(home)
        record = _record_of(home, running)
        if running is None or record is None or WORKER in record.drained:
            return True
        if record.services[WORKER][0] not in (None, service.pid):
            raise DevstackError("The trainer worker ended in another way while draining, and was started again.")
        time.sleep(0.1)
    return False


def stop_stack(settings: StackSettings) -> StoppedStack | None:
    """End the stack of this home and everything it started; None when none ran."""
    home = Home(settings.home)
    pid = running_supervisor(home)
    if pid is None:
        return None
    record = _record_of(home, pid)
    _signal(pid, signal.SIGTERM)
    if not _wait_until_released(home, STOP_TIMEOUT_S):
        _signal(pid, signal.SIGKILL)  # the kernel then ends its children
        if not _wait_until_released(home, 5.0):
            raise DevstackError(f"The supervisor, process {pid}, cannot be ended.")
    services = record.services if record is not None else {}
    return StoppedStack(pid, tuple(name for name, (service, _) in services.items() if service is not None))


def _fresh_while_running(home: Home) -> DevstackError:
    return DevstackError(f"A stack runs in {home.path}, and --fresh would wipe its data: `./trainyard down` first.")


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _wait_until_released(home: Home, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while running_supervisor(home) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _record_of(home: Home, supervisor: int | None) -> StackRecord | None:
    """What this supervisor wrote; None while the file is still an earlier one's."""
    record = read_record(home)
    return record if record is not None and record.supervisor == supervisor else None


def _wait_until_ready(
    settings: StackSettings, home: Home, supervisor: subprocess.Popen[bytes] | None, deadline: float
) -> StackStatus:
    status: StackStatus | None = None
    while time.monotonic() < deadline:
        running = running_supervisor(home)
        record = _record_of(home, running)
        if running is None and (supervisor is None or supervisor.poll() is not None):
            ended = None if supervisor is None else _record_of(home, supervisor.pid)
            if ended is not None and ended.failure:
                kind = ConfigurationError if ended.failure_status == ConfigurationError.exit_code else DevstackError
                raise kind(ended.failure)
            raise DevstackError("The supervisor ended:\n" + last_lines(home.log_of("supervisor")))
        if record is not None and record.services:
            status = _probe(home, record)
            if status.is_ready:
                return status
        time.sleep(0.1)
    raise DevstackError(_not_ready(settings, home, status))


def _not_ready(settings: StackSettings, home: Home, status: StackStatus | None) -> str:
    names = ["supervisor"] if status is None else [n for n, s in status.services.items() if not s.ready]
    tails = "\n".join(f"--- {home.log_of(name)}\n{last_lines(home.log_of(name), 8)}" for name in names)
    what = "Kafka" if status is None else ", ".join(names)
    return (
        f"Not ready within {settings.ready_timeout_s:.0f} s: {what}. The stack goes on trying; `./trainyard status`"
        f" tells how far it is, `./trainyard down` ends it. The end of the logs:\n{tails}"
    )


def _probe(home: Home, record: StackRecord) -> StackStatus:
    addresses = {name: f"http://127.0.0.1:{port}" for name, (_, port) in record.services.items()}
    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        ready = dict(zip(addresses, pool.map(_is_ready, addresses.values()), strict=True))
    return StackStatus(
        record.bootstrap,
        record.topic_prefix,
        record.clearml_api,
        record.clearml_files,
        read_credentials(home),
        {
            name: ServiceStatus(pid, pid is not None and ready[name], addresses[name], name in record.drained)
            for name, (pid, _) in record.services.items()
        },
    )


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=PROBE_TIMEOUT_S) as answer:  # noqa: S310 - our own http
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
