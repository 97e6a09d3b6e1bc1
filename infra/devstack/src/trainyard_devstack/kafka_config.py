"""The embedded broker's configuration: one KRaft node that is broker and controller, small enough for a laptop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard_devstack.java import Java

JVM_MEMORY = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""With what kafka_aot keeps 250 to 300 MB resident, ready in 1 to 2 s; without it 50 MB and 1 to 2 s more."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The two loopback ports of the node: clients talk to `port`, the controller to itself on `controller_port`."""

    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """What clients are given."""
        return f"127.0.0.1:{self.port}"


def server_properties(address: BrokerAddress, log_dir: Path) -> str:
    """The text of server.properties."""
    controller = f"127.0.0.1:{address.controller_port}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"BROKER://{address.bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"BROKER://{address.bootstrap}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",  # topics come from the declaration only
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": "1",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "offsets.retention.minutes": "43200",  # 30 d, as long as requests are kept: a stack may be off for weeks
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",  # the default of 3 s makes every first consumer wait
        "broker.heartbeat.interval.ms": "1000",
        "broker.session.timeout.ms": "3000",  # a killed broker may register again only after this; the default is 9 s
        "metadata.max.idle.interval.ms": "5000",  # the default writes to the disk twice a second, for nothing
        "log.segment.bytes": str(64 * 1024 * 1024),
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),  # the default of 128 MB is a third of the heap
        "log.index.size.max.bytes": str(1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
        "group.coordinator.threads": "2",
    }
    return "".join(f"{key}={_escaped(value)}\n" for key, value in settings.items())


def _escaped(value: str) -> str:
    """As Java reads a .properties file: Latin-1, with escapes in UTF-16."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)


def java_command(
    java: Java, jars: Sequence[Path], main: str, *arguments: str, options: Sequence[str] = ()
) -> list[str]:
    """The command line that runs a class of Kafka, with further `options` of the JVM."""
    quiet = ["--enable-native-access=ALL-UNNAMED"] if java.major >= 22 else []
    if java.major >= 23:
        quiet.append("--sun-misc-unsafe-memory-access=allow")
    logging = (
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
    )
    class_path = ":".join(str(jar) for jar in jars)
    flags = (*JVM_MEMORY, "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", *quiet, *logging, *options)
    return [str(java.program), *flags, "-cp", class_path, main, *arguments]


def explain_death(log_tail: str) -> str | None:
    """One sentence for a broker that ended by itself, from its last log lines; None where they tell nothing known."""
    text = log_tail.lower()
    if "no space left on device" in text:
        return "the disk is full: free some space (or wipe the stack's data with --fresh), then start again"
    if "address already in use" in text or "failed to bind" in text:
        return "its port was taken by another program between the choice and the start: start again"
    if any(sign in text for sign in ("metadata.version", "unsupportedversion", "feature level")):
        return "its data were written by another version of Kafka: start with --fresh, which wipes them"
    if "meta.properties" in text:
        return "its data folder has lost its meta.properties: bring that back, or start with --fresh, which wipes them"
    if "outofmemoryerror" in text:
        return "it ran out of memory"
    return None
