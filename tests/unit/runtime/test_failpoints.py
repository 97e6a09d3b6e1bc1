"""Failpoints."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from trainyard_runtime.failpoints import (
    FailpointReached,
    FailpointSyntaxError,
    configure_failpoints,
    failpoint,
)


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    configure_failpoints(None)


def test_nothing_happens_without_a_rule() -> None:
    configure_failpoints("")
    failpoint("D3")


def test_a_hit_acts_on_that_pass_only() -> None:
    configure_failpoints("D3:raise@2")
    failpoint("D3")
    with pytest.raises(FailpointReached, match="D3"):
        failpoint("D3")
    failpoint("D3")


def test_several_rules_live_side_by_side() -> None:
    configure_failpoints("I1:sleep=0.05,D3:raise")
    before = time.monotonic()
    failpoint("I1")
    assert time.monotonic() - before >= 0.05
    with pytest.raises(FailpointReached):
        failpoint("D3")


@pytest.mark.parametrize("setting", ["D3", "D3:explode", "Z9:kill", "D3:kill@", "D3:sleep=", "d3:kill", "D3:kill@x"])
def test_a_setting_that_is_no_rule_is_refused_with_the_legal_ones(setting: str) -> None:
    with pytest.raises(FailpointSyntaxError, match="write NAME:kill"):
        configure_failpoints(setting)


def test_kill_ends_the_process_with_sigkill() -> None:
    code = (
        "from trainyard_runtime.failpoints import *;"
        "configure_failpoints_from_environment(); failpoint('W1'); failpoint('I2'); print('survived')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TRAINYARD_FAILPOINT": "I2:kill"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert b"survived" not in done.stdout
