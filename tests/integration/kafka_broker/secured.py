"""The embedded broker with three more doors: TLS, SASL, and SASL over TLS, for one user."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from trainyard_devstack import kafka_broker
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_devstack.kafka_config import BrokerAddress, server_properties
from trainyard_devstack.ports import free_port

USER, PASSWORD = "carol", "s3cret-canary"
DOORS = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """`doors`: the bootstrap address by security protocol; `plain`: the one without any."""

    plain: str
    doors: dict[str, str]
    ca_file: Path

    def environment(self, protocol: str, mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD) -> dict[str, str]:
        """What our services and the CLI are given."""
        return {
            "TRAINYARD_KAFKA_BOOTSTRAP": self.doors[protocol],
            "TRAINYARD_KAFKA_SECURITY_PROTOCOL": protocol,
            "TRAINYARD_KAFKA_SASL_MECHANISM": mechanism,
            "TRAINYARD_KAFKA_USERNAME": USER,
            "TRAINYARD_KAFKA_PASSWORD": password,
            "TRAINYARD_KAFKA_CA_FILE": str(self.ca_file),
        }


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """A broker of its own, ended on leaving."""
    folder.mkdir()
    ca_file = _certificate(folder)
    ports = {door: free_port() for door in DOORS}

    def properties(address: BrokerAddress, log_dir: Path) -> str:
        settings = dict(line.split("=", 1) for line in server_properties(address, log_dir).splitlines())
        for door, port in ports.items():
            place = f"{door}://127.0.0.1:{port}"
            settings["listeners"] += f",{place}"
            settings["advertised.listeners"] += f",{place}"
            settings["listener.security.protocol.map"] += f",{door}:{door}"
            if door.startswith("SASL"):
                settings |= _logins(f"listener.name.{door.lower()}")
        settings |= {
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(folder / "server.pem"),
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())

    kafka = EmbeddedKafka(folder / "data")
    with patch.object(kafka_broker, "server_properties", properties), kafka:
        _know_the_user(kafka.bootstrap)
        yield SecuredKafka(kafka.bootstrap, {door: f"127.0.0.1:{port}" for door, port in ports.items()}, ca_file)


def _logins(listener: str) -> dict[str, str]:
    plain = f'{_LOGIN}.plain.PlainLoginModule required username="{USER}" password="x" user_{USER}="{PASSWORD}";'
    scram = f"{_LOGIN}.scram.ScramLoginModule required;"
    return {
        f"{listener}.{mechanism.lower()}.sasl.jaas.config": plain if mechanism == "PLAIN" else scram
        for mechanism in MECHANISMS
    }


def _know_the_user(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(USER, mechanism, PASSWORD, iterations=4096)]
            )
    finally:
        admin.close()


def _certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority; the key stands beside it in `server.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + pem)
    (folder / "ca.pem").write_bytes(pem)
    return folder / "ca.pem"
