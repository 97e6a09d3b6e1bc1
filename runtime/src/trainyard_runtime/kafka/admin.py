"""Kafka administration by kafka-python: does the broker answer, and are the topics there as declared."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.net.compat import KafkaNetClient

from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.topic_plan import Difference, ExistingTopic, TopicPlan, plan_topics
from trainyard_schemas.topics import Topic


class KafkaUnavailableError(Exception):
    """No broker answered in time, or it refused the request."""


class LossyTopicsError(Exception):
    """Existing topics differ from their declaration in a way that can lose records; nothing was changed."""

    def __init__(self, refusals: tuple[str, ...]) -> None:
        super().__init__("Kafka's topics are not safe to use: " + "; ".join(refusals) + ".")
        self.refusals = refusals


@dataclass(frozen=True, slots=True)
class TopicsReport:
    """What `apply_topics` found and did; names are full names."""

    created: tuple[str, ...]
    unchanged: tuple[str, ...]
    differences: tuple[Difference, ...]


def broker_answers(at: Address | str, timeout_s: float) -> bool:
    """Whether a metadata request is answered within the time, by a broker that takes part in its cluster."""
    try:
        with _admin(at, timeout_s) as admin:
            brokers = admin.describe_cluster()["brokers"]
    except KafkaUnavailableError:
        return False
    return any(not broker.get("is_fenced", False) for broker in brokers)


def apply_topics(
    at: Address | str,
    prefix: str,
    declarations: Iterable[Topic],
    *,
    replication_factor: int = -1,
    timeout_s: float = 30.0,
) -> TopicsReport:
    """Create the declared topics that are missing, and wait until each has its leaders.

    Existing topics are never altered: a harmless difference is in the report, and one that can lose or misplace records
    raises LossyTopicsError before anything is created. Doing it again, or from two places at once, is harmless.
    `replication_factor` -1 is the broker's default. Raises KafkaUnavailableError when no broker answers.
    """
    wanted = tuple(declarations)
    with _admin(at, timeout_s) as admin:
        plan = plan_topics(wanted, prefix, _existing(admin))
        if plan.refusals:
            raise LossyTopicsError(plan.refusals)
        if plan.create:
            _create(admin, plan, replication_factor, timeout_s)
            # Somebody else may have created one of them in this moment, and otherwise than declared.
            plan_now = plan_topics(wanted, prefix, _existing(admin))
            if plan_now.refusals:
                raise LossyTopicsError(plan_now.refusals)
            return TopicsReport(tuple(t.name for t in plan.create), plan.unchanged, plan_now.differences)
        return TopicsReport((), plan.unchanged, plan.differences)


def inspect_topics(
    at: Address | str, prefix: str, declarations: Iterable[Topic], *, timeout_s: float = 30.0
) -> TopicPlan:
    """What `apply_topics` would do, without doing it."""
    with _admin(at, timeout_s) as admin:
        return plan_topics(tuple(declarations), prefix, _existing(admin))


@contextmanager
def _admin(at: Address | str, timeout_s: float) -> Iterator[KafkaAdminClient]:
    """An admin client. Raises KafkaUnavailableError for whatever the client library raises inside the block."""
    address = Address(at) if isinstance(at, str) else at
    bootstrap, servers = address.bootstrap, address.servers
    timeout_ms = int(timeout_s * 1000)
    if not _a_port_opens(servers, timeout_s):
        raise KafkaUnavailableError(f"Kafka at {bootstrap} does not answer: nothing listens there.")
    begun: list[KafkaNetClient] = []

    def begin(**config: object) -> KafkaNetClient:
        begun.append(KafkaNetClient(**config))
        return begun[-1]

    try:
        try:
            client = KafkaAdminClient(
                **address.client_options(),
                bootstrap_timeout_ms=timeout_ms,
                request_timeout_ms=timeout_ms,
                client_id="trainyard-admin",
                kafka_client=begin,
            )
        except (KafkaError, OSError) as error:
            for half_open in begun:  # kafka-python 3.0.12 leaves its sockets and its thread behind
                half_open.close()
                half_open._manager._net.stop()
            raise KafkaUnavailableError(
                f"Kafka at {bootstrap} does not answer to {address.security_protocol} ({error}). Something listens"
                " there: are TRAINYARD_KAFKA_SECURITY_PROTOCOL, the SASL mechanism, user and password, and the CA file"
                " right?"
            ) from error
        try:
            yield client
        finally:
            client.close()
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(f"Kafka at {bootstrap} did not do as asked: {error}.") from error


def _a_port_opens(servers: Iterable[str], timeout_s: float) -> bool:
    """Whether one of the addresses takes a connection in time."""
    addresses = [server.rpartition(":") for server in servers]
    deadline = time.monotonic() + timeout_s
    while True:
        for host, _, port in addresses:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=max(0.1, timeout_s)).close()
            except OSError:
                continue
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)


def _existing(admin: KafkaAdminClient) -> dict[str, ExistingTopic]:
    described = [topic for topic in admin.describe_topics() if topic.get("error_code", 0) == 0]
    if not described:
        return {}
    names = [topic["name"] for topic in described]
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        topic["name"]: ExistingTopic(
            len(topic["partitions"]),
            {key: entry["value"] for key, entry in configs[topic["name"]].items() if entry["value"] is not None},
        )
        for topic in described
    }


def _create(admin: KafkaAdminClient, plan: TopicPlan, replication_factor: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for topic in plan.create:
        request = {
            topic.name: {
                "num_partitions": topic.partitions,
                "replication_factor": replication_factor,
                "configs": dict(topic.configs),
            }
        }
        try:
            admin.create_topics(request, timeout_ms=int(timeout_s * 1000))
        except TopicAlreadyExistsError:
            continue  # another process was faster; the caller compares it with the declaration
    remaining_ms = max(1000, int((deadline - time.monotonic()) * 1000))
    admin.wait_for_topics([topic.name for topic in plan.create], timeout_ms=remaining_ms)
