"""What every aiokafka client of ours has in common."""

from __future__ import annotations

import ssl
from typing import Any

from trainyard_runtime.kafka.records import Record
from trainyard_runtime.kafka.settings import KafkaSettings


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """The keyword arguments that every aiokafka client of ours has in common."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=settings.ca_file)
    if settings.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": settings.password.get_secret_value(),
        }
    return options


def record_of(raw: Any) -> Record:
    """A record from aiokafka's own form."""
    if isinstance(raw, Record):
        return raw
    return record_in(raw.topic, raw.partition, raw)


def record_in(topic: str, partition: int, raw: Any) -> Record:
    """A record from aiokafka's form inside a batch, which does not know its place."""
    return Record(topic, partition, raw.offset, raw.timestamp, raw.key, raw.value, tuple(raw.headers or ()))


def describe(error: BaseException) -> str:
    """The error's kind, and its sentence where it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
