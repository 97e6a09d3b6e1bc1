"""A yard for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.dispatcher.yard import Yard, yard_at


@pytest.fixture
def yard(kafka_bootstrap: str, topic_prefix: str, clearml_server: ClearMLServer, tmp_path: Path) -> Iterator[Yard]:
    with yard_at(kafka_bootstrap, topic_prefix, clearml_server, tmp_path) as found:
        yield found
