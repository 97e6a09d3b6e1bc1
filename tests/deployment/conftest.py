"""Programs that the checks of deployments need."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs the program promtool (Debian: apt-get install prometheus)")
    return found
