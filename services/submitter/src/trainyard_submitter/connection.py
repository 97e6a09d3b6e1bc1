"""Which Kafka to talk to: what is given, else the environment, else the local stack that is running.

The local stack leaves its addresses in `$TRAINYARD_HOME/stack.json`; of that file only
`{"bootstrap": "host:port", "topic_prefix": "trainyard.", "services": {"submitter": [pid, port]}}` is read here. A stack
that is still starting has an empty `bootstrap`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard_runtime.kafka.address import SASL_MECHANISMS, SECURITY_PROTOCOLS, Address
from trainyard_schemas.topics import DEFAULT_PREFIX
from trainyard_submitter.errors import ConfigurationError

BOOTSTRAP = "TRAINYARD_KAFKA_BOOTSTRAP"
PREFIX = "TRAINYARD_TOPIC_PREFIX"
PROTOCOL = "TRAINYARD_KAFKA_SECURITY_PROTOCOL"
MECHANISM = "TRAINYARD_KAFKA_SASL_MECHANISM"
USERNAME = "TRAINYARD_KAFKA_USERNAME"
PASSWORD = "TRAINYARD_KAFKA_PASSWORD"  # noqa: S105 - the name of a variable
CA_FILE = "TRAINYARD_KAFKA_CA_FILE"
HOME = "TRAINYARD_HOME"
DEFAULT_HOME = ".trainyard"
STACK_FILE = "stack.json"
PAGE = "submitter"
"""The service of the stack that serves the run page."""
_ADDRESS = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[^\s:,\[\]]+):\d{1,5}$")
_PREFIX_PATTERN = re.compile(r"^([A-Za-z0-9_-]+\.)*$")


@dataclass(frozen=True, slots=True)
class Connection:
    """Address and topic prefix (with its dot)."""

    address: Address
    topic_prefix: str


def resolve(bootstrap: str | None, topic_prefix: str | None, environment: Mapping[str, str]) -> Connection:
    """The connection. Raises ConfigurationError, naming what to set."""
    servers, prefix = bootstrap or environment.get(BOOTSTRAP), topic_prefix or environment.get(PREFIX)
    if not servers:
        stack = _running_stack(environment)
        if stack is None:
            raise ConfigurationError(
                f"no Kafka is known: start the local stack with `trainyard up`, or set {BOOTSTRAP} or --bootstrap"
                " to host:port"
            )
        servers, prefix = stack[0], prefix or stack[1]
    prefix = DEFAULT_PREFIX if prefix is None else prefix
    addresses = [part.strip() for part in servers.split(",") if part.strip()]
    if not addresses or not all(_ADDRESS.match(address) for address in addresses):
        raise ConfigurationError(f"{BOOTSTRAP} (or --bootstrap) is not host:port[,host:port]")
    if not _PREFIX_PATTERN.match(prefix):
        raise ConfigurationError(f"{PREFIX} (or --topic-prefix) must end with its dot, like 'trainyard.'")
    return Connection(_address(",".join(addresses), environment), prefix)


def page_of(environment: Mapping[str, str], known: Connection, run_id: str = "") -> str | None:
    """The address of the local stack's run page, or of one run's; None where that stack is another one than
    `known`, or serves no page now."""
    try:
        stack = json.loads((Path(environment.get(HOME) or DEFAULT_HOME) / STACK_FILE).read_text(encoding="utf-8"))
        pid, port = stack["services"][PAGE]
        if (stack["bootstrap"], stack["topic_prefix"]) != (known.address.bootstrap, known.topic_prefix) or pid is None:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a link that is missing is no reason to fail
    return f"http://127.0.0.1:{port}/" + (f"runs/{run_id}" if run_id else "")


def _address(servers: str, environment: Mapping[str, str]) -> Address:
    protocol = environment.get(PROTOCOL) or "PLAINTEXT"
    mechanism = environment.get(MECHANISM) or "SCRAM-SHA-512"
    if protocol not in SECURITY_PROTOCOLS:
        raise ConfigurationError(f"{PROTOCOL} is none of {', '.join(SECURITY_PROTOCOLS)}")
    if mechanism not in SASL_MECHANISMS:
        raise ConfigurationError(f"{MECHANISM} is none of {', '.join(SASL_MECHANISMS)}")
    ca_file = environment.get(CA_FILE) or None
    if ca_file is not None and not Path(ca_file).is_file():
        raise ConfigurationError(f"{CA_FILE}: there is no such file; name the PEM file of the certificate authority")
    if not protocol.startswith("SASL"):
        return Address(servers, protocol, ssl_cafile=ca_file)
    if not environment.get(USERNAME) or not environment.get(PASSWORD):
        raise ConfigurationError(f"{PROTOCOL} {protocol} needs {USERNAME} and {PASSWORD}")
    return Address(
        servers,
        protocol,
        sasl_mechanism=mechanism,
        sasl_username=environment[USERNAME],
        sasl_password=environment[PASSWORD],
        ssl_cafile=ca_file,
    )


def _running_stack(environment: Mapping[str, str]) -> tuple[str, str] | None:
    path = Path(environment.get(HOME) or DEFAULT_HOME) / STACK_FILE
    try:
        stack = json.loads(path.read_text(encoding="utf-8"))
        bootstrap, prefix = stack["bootstrap"], stack["topic_prefix"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as the local stack's addresses; run `trainyard down` and `trainyard up`"
        ) from error
    return (str(bootstrap), str(prefix)) if bootstrap else None
