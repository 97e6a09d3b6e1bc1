from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviour.clearml.raw import Raw
from tests.behaviour.clearml.server import ClearMLServer


@pytest.fixture
def raw(clearml_server: ClearMLServer) -> Iterator[Raw]:
    caller = Raw(clearml_server)
    yield caller
    caller.http.close()
