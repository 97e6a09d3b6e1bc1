"""A stage for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker.stage import Stage, staged


@pytest.fixture
def stage(kafka_bootstrap: str, topic_prefix: str, clearml_server: ClearMLServer, tmp_path: Path) -> Iterator[Stage]:
    with staged(kafka_bootstrap, topic_prefix, clearml_server, tmp_path) as found:
        yield found
