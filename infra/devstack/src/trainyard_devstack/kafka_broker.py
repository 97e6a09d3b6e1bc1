"""A real Apache Kafka broker on this machine, without Docker and without an installed Java."""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from trainyard_devstack.children import end_child, last_lines, start_child
from trainyard_devstack.errors import ConfigurationError, DevstackError
from trainyard_devstack.java import Java, find_java
from trainyard_devstack.kafka_aot import ensure_cache
from trainyard_devstack.kafka_config import BrokerAddress, explain_death, java_command, server_properties
from trainyard_devstack.kafka_jars import default_cache_dir, ensure_jars
from trainyard_devstack.ports import is_free, kept_ports
from trainyard_schemas.topics import TOPICS

MIN_FREE_BYTES = 200 * 1024 * 1024
"""Below this much free space the broker is not started: it would end in the middle of a run."""


class EmbeddedKafka:
    """One broker whose data lie in `data_dir`.

    Data and ports are kept between starts: the same data folder comes back with the same topics, and on the same port
    as long as that is free. Given a `port`, that very port is used or `start` refuses. The broker is ended by its own
    pid, and it cannot outlive this process; start it from the main thread.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        log_path: Path | None = None,
        jars_dir: Path | None = None,
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 10.0,
        notify: Callable[[str], None] = lambda _sentence: None,
        learn_to: Path | None = None,
    ) -> None:
        """With `learn_to`, what the start has learnt is left there when the broker stops (kafka_aot)."""
        self._data_dir = data_dir.resolve()
        self._wanted_port = port
        self._log_path = log_path or self._data_dir / "kafka.log"
        self._jars_dir = (jars_dir or default_cache_dir(os.environ)).resolve()
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._notify = notify
        self._learn_to = learn_to
        self._address: BrokerAddress | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._log_start_byte = 0

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients. Only known once started."""
        if self._address is None:
            raise DevstackError("The embedded Kafka has no address before it is started.")
        return self._address.bootstrap

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The broker's process; None before a start and after a stop."""
        return self._process

    def start(self) -> str:
        """Start the broker and wait until a metadata request is answered. Returns the bootstrap address.

        Raises DevstackError with the reason when it does not become ready, and leaves no process behind then.
        """
        self.spawn()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self.bootstrap

    def prepare(self) -> tuple[Java, list[Path], list[str]]:
        """The Java, Kafka's jars and the JVM's options of a start: what is missing is downloaded and made, once."""
        java = find_java(os.environ)
        jars = ensure_jars(self._jars_dir, self._notify)
        if self._learn_to is not None:
            return java, jars, []
        cache = ensure_cache(java, jars, self._jars_dir, self._learn, self._notify)
        return java, jars, [] if cache is None else [f"-XX:AOTCache={cache}"]

    def spawn(self) -> None:
        """Start the process without waiting: formats the data folder first where it is new (about 1 s)."""
        if self._process is not None and self._process.poll() is None:
            raise DevstackError("The embedded Kafka runs already.")
        if "," in str(self._data_dir):
            raise ConfigurationError(
                f"Kafka takes the comma in {self._data_dir} for the end of a folder's name: choose a home without one."
            )
        try:
            java, jars, options = self.prepare()
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._take_the_folder()
            self._refuse_a_full_disk()
            self._address = self._choose_address()
            self._wanted_port = self._address.port  # clients know it now: a restart must come back there
            logs, properties = self._data_dir / "logs", self._data_dir / "server.properties"
            properties.write_text(server_properties(self._address, logs), encoding="utf-8")
            if not is_formatted(logs):
                shutil.rmtree(logs, ignore_errors=True)  # a format that was cut off
                self._format(java_command(java, jars, "kafka.tools.StorageTool", options=options), properties)
            learning = [] if self._learn_to is None else [f"-XX:AOTCacheOutput={self._learn_to}"]
            command = java_command(java, jars, "kafka.Kafka", str(properties), options=[*options, *learning])
            self._log_start_byte = self._log_path.stat().st_size if self._log_path.exists() else 0
            self._process = start_child(command, log_path=self._log_path)
        except OSError as error:
            self.stop()
            raise DevstackError(f"The embedded Kafka could not use {self._data_dir}: {error}.") from error
        except DevstackError:
            self.stop()
            raise

    def wait_until_ready(self) -> None:
        """Return when the broker answers a metadata request; DevstackError when it has ended or the time is up."""
        from trainyard_runtime.kafka.admin import broker_answers

        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise DevstackError(self._death_sentence())
            if self._port_is_open() and broker_answers(self.bootstrap, timeout_s=2.0):
                return
            time.sleep(0.05)
        raise DevstackError(
            f"The embedded Kafka was not ready within {self._start_timeout_s:.0f} s; the end of {self._log_path}:\n"
            + last_lines(self._log_path)
        )

    def stop(self) -> None:
        """End the broker, if it runs: SIGTERM, SIGKILL after the deadline. Its data stay."""
        if self._process is not None:
            end_child(self._process, grace_s=self._stop_timeout_s)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _learn(self, output: Path) -> None:
        """Start and end a broker in a folder of its own that does what every stack's broker does first."""
        from trainyard_runtime.kafka.admin import apply_topics

        with (
            tempfile.TemporaryDirectory(prefix="trainyard-kafka-") as folder,
            EmbeddedKafka(Path(folder), jars_dir=self._jars_dir, stop_timeout_s=60.0, learn_to=output) as kafka,
        ):
            apply_topics(kafka.bootstrap, "trainyard.", TOPICS)

    def _take_the_folder(self) -> None:
        """Hold the folder's lock: Kafka itself lets a second KRaft node write into the same data for a while."""
        if self._lock is not None:
            return
        lock = (self._data_dir / "in-use.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise DevstackError(
                f"Another broker uses {self._data_dir}: end it first, or choose another data folder."
            ) from error
        self._lock = lock

    def _refuse_a_full_disk(self) -> None:
        free = shutil.disk_usage(self._data_dir).free
        if free < MIN_FREE_BYTES:
            raise DevstackError(
                f"The embedded Kafka needs {MIN_FREE_BYTES // 2**20} MB free in {self._data_dir}, and there are"
                f" {free // 2**20} MB: free some space, then start again."
            )

    def _choose_address(self) -> BrokerAddress:
        """The ports of the last start where they are still free, else new ones; the wanted port or an error."""
        if self._wanted_port and not is_free(self._wanted_port):
            raise ConfigurationError(
                f"Port {self._wanted_port} on 127.0.0.1 is taken by another program: end it, or choose another port"
                " for Kafka."
            )
        kept = kept_ports(self._data_dir / "ports.json", ("port", "controller_port"))
        return BrokerAddress(self._wanted_port or kept["port"], kept["controller_port"])

    def _format(self, storage_tool: list[str], properties: Path) -> None:
        # Kafka wants 16 bytes in URL-safe base64; the tool takes a leading "-" for an option.
        cluster_id = "t" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        done = subprocess.run(
            [*storage_tool, "format", "--cluster-id", cluster_id, "--config", str(properties)],
            capture_output=True,
            text=True,
            timeout=self._start_timeout_s,
            check=False,
        )
        if done.returncode != 0:
            output = (done.stdout + done.stderr).strip()
            reason = explain_death(output) or output[-500:]
            raise DevstackError(f"Kafka's data folder {self._data_dir} could not be formatted: {reason}.")

    def _port_is_open(self) -> bool:
        assert self._address is not None
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self._address.port)) == 0

    def _death_sentence(self) -> str:
        reason = explain_death(last_lines(self._log_path, 400, since_byte=self._log_start_byte))
        if reason is not None:
            return f"The embedded Kafka ended while starting: {reason}. Its log: {self._log_path}"
        tail = last_lines(self._log_path, since_byte=self._log_start_byte)
        return f"The embedded Kafka ended while starting; the end of its log {self._log_path}:\n{tail}"


def is_formatted(logs: Path) -> bool:
    """Whether Kafka's folder is ready for a start. Raises DevstackError where it holds topics, and lost what it needs
    to read them: nothing of them is wiped without being asked."""
    identity = logs / "meta.properties"
    if identity.is_file() and identity.stat().st_size:
        return True
    if any(folder.is_dir() and not folder.name.startswith("__cluster_metadata") for folder in logs.glob("*-*[0-9]")):
        raise DevstackError(
            f"Kafka's data in {logs} hold topics, and {identity.name} beside them is missing or empty: bring it back,"
            " or start with --fresh, which wipes them."
        )
    return False
