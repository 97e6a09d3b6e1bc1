"""What the stack consists of: its folders, its processes and what each of them is told. Pure but for paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KAFKA = "kafka"
CLEARML = "clearml"
PAGE = "submitter"
"""The service that serves the run page."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folders and files below TRAINYARD_HOME."""

    path: Path

    @property
    def kafka(self) -> Path:
        """Kafka's data."""
        return self.path / "kafka"

    @property
    def clearml(self) -> Path:
        """The ClearML API's database and files, the trained models among them."""
        return self.path / "clearml"

    @property
    def state(self) -> Path:
        """The services' own durable files."""
        return self.path / "state"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives; its text is the supervisor's pid."""
        return self.path / "supervisor.lock"

    @property
    def record(self) -> Path:
        """What the running supervisor has started."""
        return self.path / "stack.json"

    @property
    def credentials(self) -> Path:
        """The keys of the ClearML API, readable by the owner only."""
        return self.path / "credentials.json"

    @property
    def ports(self) -> Path:
        """The ports of the last start."""
        return self.path / "ports.json"

    def log_of(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys that the stack's ClearML API takes."""

    access_key: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything listens: `kafka` as host:port, the ClearML hosts as URLs, the services' ports by name."""

    kafka: str
    clearml_api_port: int
    clearml_files_port: int
    service_ports: Mapping[str, int]

    @property
    def clearml_api(self) -> str:
        """The API's URL."""
        return f"http://127.0.0.1:{self.clearml_api_port}"

    @property
    def clearml_files(self) -> str:
        """The file server's URL."""
        return f"http://127.0.0.1:{self.clearml_files_port}"

    def of_service(self, name: str) -> str:
        """A service's URL."""
        return f"http://127.0.0.1:{self.service_ports[name]}"


@dataclass(frozen=True, slots=True)
class Service:
    """One of our services: `python -m trainyard_...`, configured by environment, ready by /readyz."""

    name: str
    command: tuple[str, ...]


def services_of(environment: Mapping[str, str]) -> tuple[Service, ...]:
    """The stack's services. Its one worker serves the queues for CPU and services, as they are named, and `default`."""
    agents = {"CLEARML_CPU_QUEUE": "cpu", "CLEARML_SERVICES_QUEUE": "services"}
    queues = dict.fromkeys([*(environment.get(name) or usual for name, usual in agents.items()), "default"])
    return (
        Service("dispatcher", (sys.executable, "-m", "trainyard_dispatcher")),
        Service("trainer-worker", (sys.executable, "-m", "trainyard_trainer_worker", "--queues", *queues)),
        Service("stats", (sys.executable, "-m", "trainyard_stats")),
        Service(PAGE, (sys.executable, "-m", "trainyard_submitter.gateway")),
    )


def clearml_command(home: Home, addresses: Addresses) -> tuple[str, ...]:
    """The command line of the embedded ClearML API."""
    ports = ("--api-port", str(addresses.clearml_api_port), "--files-port", str(addresses.clearml_files_port))
    module = (sys.executable, "-m", "trainyard_devstack.clearml_api")
    return (*module, "--host", "127.0.0.1", *ports, "--data", str(home.clearml))


def service_environment(
    base: Mapping[str, str],
    service: Service,
    home: Home,
    addresses: Addresses,
    credentials: Credentials,
    *,
    topic_prefix: str,
    data_roots: tuple[str, ...],
) -> dict[str, str]:
    """What a service is told: the caller's environment, and the stack's own facts above it."""
    return {
        **base,
        **clearml_environment(base, addresses, credentials),
        "TRAINYARD_KAFKA_BOOTSTRAP": addresses.kafka,
        "TRAINYARD_TOPIC_PREFIX": topic_prefix,
        "TRAINYARD_HTTP_HOST": "127.0.0.1",
        "TRAINYARD_HTTP_PORT": str(addresses.service_ports[service.name]),
        "TRAINYARD_STATE_DIR": str(home.state / service.name),
        "TRAINYARD_DATA_ROOTS": os.pathsep.join(data_roots),
    }


def clearml_environment(base: Mapping[str, str], addresses: Addresses, credentials: Credentials) -> dict[str, str]:
    """What the ClearML API, its SDK and our services read, by the SDK's own names."""
    return {
        **base,
        "CLEARML_API_HOST": addresses.clearml_api,
        "CLEARML_WEB_HOST": addresses.clearml_api,
        "CLEARML_FILES_HOST": addresses.clearml_files,
        "CLEARML_API_ACCESS_KEY": credentials.access_key,
        "CLEARML_API_SECRET_KEY": credentials.secret_key,
    }
