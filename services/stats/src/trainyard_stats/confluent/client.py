"""What every client of confluent-kafka here needs."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import get_logger

ANSWER_S: Final = 5.0
"""How long a broker may take to answer a question."""

_CLIENT_ID: Final = "trainyard-stats"


def client_options(kafka: KafkaSettings, bootstrap: str = "") -> dict[str, Any]:
    """What every client needs; `bootstrap` names another cluster than ours, reached in the same way."""
    options: dict[str, Any] = {
        "bootstrap.servers": bootstrap or kafka.bootstrap,
        "client.id": _CLIENT_ID,
        "security.protocol": kafka.security_protocol,
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 3,
        "logger": _QUIET,
    }
    if kafka.security_protocol.startswith("SASL"):
        options["sasl.mechanism"] = kafka.sasl_mechanism
        options["sasl.username"] = kafka.username
        options["sasl.password"] = kafka.password.get_secret_value()
    if kafka.ca_file is not None:
        options["ssl.ca.location"] = str(kafka.ca_file)
    return options


class _Quiet:
    """librdkafka's own lines, at the level where operators ask for them: what they report is reported by us."""

    def log(self, _level: int, text: str, *values: Any) -> None:
        get_logger(component="librdkafka").debug(text % values if values else text, action="client")


_QUIET: Final = _Quiet()


def code_of(error: KafkaException) -> int | None:
    """librdkafka's code of the error."""
    problem = error.args[0] if error.args else None
    return problem.code() if isinstance(problem, KafkaError) else None


def said(error: KafkaException) -> str:
    """The error in a few words."""
    problem = error.args[0] if error.args else error
    return problem.str() if isinstance(problem, KafkaError) else str(problem)
