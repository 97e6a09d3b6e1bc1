"""The one process that starts the stack, keeps it alive and ends it: `python -m trainyard_devstack.supervisor`.

Every process is our child: the kernel ends it should we be killed, and we end it by its own pid.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from trainyard_devstack.children import end_child, start_child
from trainyard_devstack.errors import DevstackError
from trainyard_devstack.home_files import (
    StackRecord,
    make_home,
    read_or_make_credentials,
    rotate_log,
    supervisor_lock,
    take_drain_request,
    write_record,
)
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_devstack.ports import free_port, is_free, kept_ports
from trainyard_devstack.restarts import NEVER_DIED, Restart, after_death
from trainyard_devstack.settings import StackSettings
from trainyard_devstack.stack import (
    CLEARML,
    KAFKA,
    PAGE,
    Addresses,
    Home,
    Service,
    clearml_command,
    clearml_environment,
    service_environment,
    services_of,
)
from trainyard_runtime.kafka.admin import KafkaUnavailableError, LossyTopicsError, apply_topics
from trainyard_runtime.settings import ConfigurationError as SettingsError
from trainyard_runtime.settings import exit_for_configuration, settings_or_exit
from trainyard_schemas.topics import FOREIGN_TOPICS, TOPICS

TICK_S = 0.5
ROTATE_EVERY_S = 10.0
GRACE_S = 4.0
"""Services promise to end within 2 s of SIGTERM."""


@dataclass(slots=True)
class _Watched:
    """One process under supervision. `start` may raise DevstackError; then it is tried again later."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    child: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    restart: Restart = NEVER_DIED
    drained: bool = False


class Supervisor:
    """One stack in one home. `run` in the main thread: signals and the children's lives are bound to it."""

    def __init__(
        self,
        settings: StackSettings,
        *,
        services: tuple[Service, ...] | None = None,
        env: Mapping[str, str] = os.environ,
        notify: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self._settings = settings
        self._home = Home(settings.home)
        self._services = services_of(env) if services is None else services
        self._env = env
        self._notify = notify
        self._watched: list[_Watched] = []
        self._record = StackRecord(os.getpid())
        self._stopping = False
        self._resuming = False
        self._unwritten = False

    def run(self) -> None:
        """Start everything, keep it alive until SIGTERM or SIGINT, end everything.

        Raises DevstackError when another supervisor holds the home, or when Kafka or its topics cannot be had at the
        start; the reason is then in the home's record too.
        """
        make_home(self._home)
        with supervisor_lock(self._home) as is_ours, self._signals() as wake:
            self._record_now()
            kafka = self._kafka()
            try:
                self._start(kafka)
                self._keep_alive(wake, is_ours)
            except DevstackError as error:
                self._record_now(failure=str(error), failure_status=error.exit_code)
                raise
            finally:
                self._end(kafka)

    def _kafka(self) -> EmbeddedKafka:
        home = self._home
        port = self._settings.kafka_port
        return EmbeddedKafka(home.kafka, port, log_path=home.log_of(KAFKA), notify=self._notify)

    def _start(self, kafka: EmbeddedKafka) -> None:
        home, settings = self._home, self._settings
        credentials = read_or_make_credentials(home)
        service_ports = [s.name for s in self._services]
        ports = kept_ports(home.ports, ["clearml-api", "clearml-files", *service_ports])
        if settings.page_port:
            ports[PAGE] = settings.page_port
        addresses = Addresses("", ports["clearml-api"], ports["clearml-files"], ports)
        clearml_env = clearml_environment(self._env, addresses, credentials)
        command = clearml_command(home, addresses)
        self._watch(CLEARML, lambda: start_child(command, log_path=home.log_of(CLEARML), env=clearml_env))
        kafka.spawn()
        self._watch(KAFKA, lambda: _respawn(kafka))
        kafka.wait_until_ready()
        addresses = replace(addresses, kafka=kafka.bootstrap)
        self._apply_topics(kafka.bootstrap)
        self._record = StackRecord(
            os.getpid(), kafka.bootstrap, settings.topic_prefix, addresses.clearml_api, addresses.clearml_files
        )
        for service in self._services:

            def start(service: Service = service) -> subprocess.Popen[bytes]:
                port = self._port_of(service, addresses)
                env = service_environment(
                    self._env,
                    service,
                    home,
                    replace(addresses, service_ports={service.name: port}),
                    credentials,
                    topic_prefix=settings.topic_prefix,
                    data_roots=settings.allowed_data_roots(),
                )
                (home.state / service.name).mkdir(parents=True, exist_ok=True)
                child = start_child(service.command, log_path=home.log_of(service.name), env=env)
                self._note(service.name, child.pid, port)
                return child

            self._watch(service.name, start)

    def _port_of(self, service: Service, addresses: Addresses) -> int:
        """The service's port; another one where somebody else took it while the service was down."""
        port = addresses.service_ports[service.name]
        if service.name == PAGE and self._settings.page_port:
            return port  # the one that was asked for, or none: its log says who has it
        known = self._record.services.get(service.name)
        if known is not None:
            port = known[1]
        return port if is_free(port) else free_port()

    def _apply_topics(self, bootstrap: str) -> None:
        try:
            topics = (*TOPICS, *FOREIGN_TOPICS)
            report = apply_topics(bootstrap, self._settings.topic_prefix, topics, replication_factor=1)
        except LossyTopicsError as error:
            raise DevstackError(f"{error} Or start with --fresh, which wipes all runs.") from error
        except KafkaUnavailableError as error:
            raise DevstackError(str(error)) from error
        for difference in report.differences:
            self._notify(
                f"Topic {difference.topic} has {difference.key}={difference.actual}; declared is {difference.declared}."
            )

    def _note(self, name: str, pid: int | None, port: int) -> None:
        self._record_now(services={**self._record.services, name: (pid, port)})

    def _record_now(self, **changes: Any) -> None:
        """Change the record; where it cannot be written (a full disk), it is tried again at every look around."""
        self._record = replace(self._record, **changes)
        try:
            write_record(self._home, self._record)
            self._unwritten = False
        except OSError as error:
            if not self._unwritten:
                self._notify(f"{self._home.record} cannot be written ({error.strerror}); it is tried again.")
            self._unwritten = True

    def _watch(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        watched = _Watched(name, start)
        self._watched.append(watched)
        self._begin(watched)

    def _begin(self, watched: _Watched) -> None:
        watched.child, watched.started_s = watched.start(), time.monotonic()

    def _keep_alive(self, wake: socket.socket, is_ours: Callable[[], bool]) -> None:
        rotate_at = 0.0
        while not self._stopping:
            select.select([wake], [], [], TICK_S)
            while _drained(wake):
                continue
            now = time.monotonic()
            if not is_ours():
                raise DevstackError(
                    f"{self._home.lock} is gone, so that another stack could take this home; this one ends."
                )
            if self._unwritten:
                self._record_now()
            if self._resuming:
                self._resuming = False
                self._resume()
            for watched in self._watched:
                if not self._stopping:
                    self._look_after(watched, now)
            if now >= rotate_at:
                rotate_at = now + ROTATE_EVERY_S
                for watched in self._watched:
                    with contextlib.suppress(OSError):  # a full disk: the next time
                        rotate_log(self._home.log_of(watched.name))

    def _look_after(self, watched: _Watched, now: float) -> None:
        if watched.child is not None and watched.child.poll() is not None:
            pid = watched.child.pid
            status = end_child(watched.child, grace_s=0)  # its group, too
            watched.child = None
            if status == 0 and take_drain_request(self._home, watched.name, pid):
                watched.drained = True
                self._notify(f"{watched.name} is drained; `trainyard up` starts it again.")
                self._record_now(drained=(*self._record.drained, watched.name))
                self._note(watched.name, None, self._record.services[watched.name][1])
                return
            watched.restart = after_death(watched.restart.deaths, watched.started_s, now)
            self._notify(
                f"{watched.name} ended with status {status}; it is started again. Its log: "
                f"{self._home.log_of(watched.name)}"
            )
            if watched.name in self._record.services:
                self._note(watched.name, None, self._record.services[watched.name][1])
        if watched.child is None and not watched.drained and now >= watched.restart.not_before_s:
            try:
                self._begin(watched)
            except (DevstackError, OSError) as error:
                watched.restart = after_death(watched.restart.deaths, now, now)
                self._notify(f"{watched.name} could not be started again: {error}")

    def _resume(self) -> None:
        """What was drained is started again."""
        for watched in self._watched:
            if watched.drained:
                watched.drained, watched.restart = False, NEVER_DIED
        self._record_now(drained=())

    def _end(self, kafka: EmbeddedKafka) -> None:
        """Services first and all at once, so that they can still say good-bye; Kafka last."""
        self._stopping = True
        self._record_now(ending=True)
        children = {w.name: w.child for w in self._watched if w.name != KAFKA and w.child is not None}
        clearml = children.pop(CLEARML, None)
        for child in children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + GRACE_S
        for child in children.values():
            end_child(child, grace_s=max(0.1, deadline - time.monotonic()))
        if clearml is not None:
            end_child(clearml, grace_s=GRACE_S)
        kafka.stop()

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """SIGTERM and SIGINT stop us, SIGUSR1 starts again what was drained; these and a child's death make the
        returned socket readable."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)

        def stop(_number: int, _frame: object) -> None:
            if self._stopping:
                return
            self._stopping = True
            if not self._record.services:  # still starting: leave the waits at once
                raise Interrupted

        def resume(_number: int, _frame: object) -> None:
            self._resuming = True

        before = {
            signal.SIGUSR1: signal.signal(signal.SIGUSR1, resume),
            signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
            signal.SIGINT: signal.signal(signal.SIGINT, stop),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda _number, _frame: None),
        }
        previous = signal.set_wakeup_fd(theirs.fileno())
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()


class Interrupted(Exception):
    """A signal asked to end while the stack was still starting."""


def _drained(wake: socket.socket) -> bytes:
    try:
        return wake.recv(4096)
    except BlockingIOError:
        return b""


def _respawn(kafka: EmbeddedKafka) -> subprocess.Popen[bytes]:
    if kafka.process is None or kafka.process.poll() is not None:
        kafka.spawn()
    assert kafka.process is not None
    return kafka.process


def main() -> int:
    """Supervise until told to stop. Returns the exit status."""
    settings = settings_or_exit(StackSettings)

    def notify(sentence: str) -> None:
        with contextlib.suppress(OSError):  # a full disk
            sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {sentence}\n")
            sys.stderr.flush()

    try:
        Supervisor(settings, notify=notify).run()
    except Interrupted:
        return 0
    except SettingsError as error:
        exit_for_configuration(error)
    except DevstackError as error:
        notify(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
