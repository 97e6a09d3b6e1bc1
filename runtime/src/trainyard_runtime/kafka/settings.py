"""How to reach Kafka, and under which prefix our topics stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from trainyard_runtime.kafka.address import Address
from trainyard_runtime.settings import EnvironmentSettings
from trainyard_schemas.topics import DEFAULT_PREFIX, TopicName

_ADDRESS = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[^\s:,\[\]]+):\d{1,5}$")
_PREFIX = re.compile(r"^([A-Za-z0-9_-]+\.)*$")


def servers_of(text: str) -> str:
    """Bootstrap servers without spaces. Raises ValueError."""
    addresses = [part.strip() for part in text.split(",") if part.strip()]
    if not addresses or not all(_ADDRESS.match(address) for address in addresses):
        raise ValueError("write it as host:port, several separated by commas")
    return ",".join(addresses)


class KafkaSettings(EnvironmentSettings):
    """Address, topic prefix and security of the Kafka cluster."""

    bootstrap: str = Field(
        validation_alias="TRAINYARD_KAFKA_BOOTSTRAP",
        description="Kafka's bootstrap servers, host:port[,host:port].",
    )
    topic_prefix: str = Field(
        default=DEFAULT_PREFIX,
        validation_alias="TRAINYARD_TOPIC_PREFIX",
        description="What every topic's name begins with, its dot included.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        validation_alias="TRAINYARD_KAFKA_SECURITY_PROTOCOL",
        description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512",
        validation_alias="TRAINYARD_KAFKA_SASL_MECHANISM",
        description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
    )
    username: str = Field(
        default="",
        validation_alias="TRAINYARD_KAFKA_USERNAME",
        description="User name for SASL.",
    )
    password: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="TRAINYARD_KAFKA_PASSWORD",
        description="Password for SASL.",
    )
    ca_file: Path | None = Field(
        default=None,
        validation_alias="TRAINYARD_KAFKA_CA_FILE",
        description="PEM file of the certificate authority for SSL; the system's authorities if not set.",
    )

    @field_validator("bootstrap")
    @classmethod
    def _addresses(cls, value: str) -> str:
        return servers_of(value)

    @field_validator("topic_prefix")
    @classmethod
    def _with_its_dot(cls, value: str) -> str:
        if not _PREFIX.match(value):
            raise ValueError("write it with its dot at the end, like 'trainyard.'")
        return value

    @field_validator("ca_file")
    @classmethod
    def _is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("there is no such file; name the PEM file of the certificate authority")
        return value

    @model_validator(mode="after")
    def _sasl_has_a_user(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and not (self.username and self.password.get_secret_value()):
            raise ValueError(
                f"TRAINYARD_KAFKA_SECURITY_PROTOCOL {self.security_protocol} needs TRAINYARD_KAFKA_USERNAME and"
                " TRAINYARD_KAFKA_PASSWORD"
            )
        return self

    @property
    def address(self) -> Address:
        """What the blocking clients are given."""
        sasl = self.security_protocol.startswith("SASL")
        return Address(
            self.bootstrap,
            self.security_protocol,
            sasl_mechanism=self.sasl_mechanism if sasl else None,
            sasl_username=self.username if sasl else None,
            sasl_password=self.password.get_secret_value() if sasl else None,
            ssl_cafile=None if self.ca_file is None else str(self.ca_file),
        )

    def topic(self, name: TopicName) -> str:
        """The full name of one of our topics."""
        return f"{self.topic_prefix}{name.value}"

    def group(self, name: str) -> str:
        """The full name of a consumer group; groups of different prefixes never meet."""
        return f"{self.topic_prefix}{name}"
