"""The same broker code against Kafka in a container, where an engine answers."""

from __future__ import annotations

import pytest

from trainyard_runtime.kafka.admin import apply_topics, broker_answers
from trainyard_schemas.topics import TOPICS


@pytest.mark.testcontainers
def test_topics_are_created_in_a_container(topic_prefix: str) -> None:
    from testcontainers.community.kafka import KafkaContainer

    with KafkaContainer().with_kraft() as container:
        bootstrap = container.get_bootstrap_server()
        assert broker_answers(bootstrap, timeout_s=10.0)
        report = apply_topics(bootstrap, topic_prefix, TOPICS)
        assert set(report.created) == {topic.full_name(topic_prefix) for topic in TOPICS}
