"""Where Kafka is and how to reach it, for programs that are configured by code and not by a settings class. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the brokers are and how to reach them. The password is in no representation and no message."""

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None

    def __repr__(self) -> str:
        return f"Address({self.bootstrap!r}, {self.security_protocol!r})"

    @property
    def servers(self) -> list[str]:
        """Each broker as `host:port`."""
        return [server.strip() for server in self.bootstrap.split(",")]

    def client_options(self) -> dict[str, Any]:
        """Options that producer, consumer and admin clients share."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security_protocol,
            "reconnect_backoff_max_ms": 500,
        }
        if self.sasl_mechanism is not None:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        if self.ssl_cafile is not None:
            options["ssl_cafile"] = self.ssl_cafile
        return options
