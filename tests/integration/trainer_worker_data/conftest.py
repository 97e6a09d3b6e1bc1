"""A fetcher, and no pauses between its attempts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.trainer_worker_data.certificates import Certificate, make_certificate
from tests.integration.trainer_worker_data.fetching import Fetching
from trainyard_trainer_worker.data import fetching as module


@pytest.fixture
def fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetching:
    monkeypatch.setattr(module, "BACKOFF_S", (0.0, 0.0))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    return Fetching(tmp_path / "fetching")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)
