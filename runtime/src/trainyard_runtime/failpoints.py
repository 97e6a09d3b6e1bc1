"""Places where a test makes a process die, stop, sleep or fail: `TRAINYARD_FAILPOINT=D3:kill@2,I1:sleep=0.5`.

A rule is `NAME:ACTION[=ARGUMENT][@HIT]`. Actions: `kill` (SIGKILL to itself), `stop` (SIGSTOP to itself), `raise`
(FailpointReached), `sleep` (blocks the whole process for ARGUMENT seconds, 1 if not given). Without `@HIT` every pass
acts, with it only that one, counted from 1. Off by default: then a pass is one lookup in an empty dictionary.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "TRAINYARD_FAILPOINT"
WINDOWS: Mapping[str, str] = {
    "S1": "submit: before the send",
    "S2": "submit: sent, not acknowledged",
    "S3": "submit: acknowledged, the client not told",
    "I1": "intake: fetched",
    "I2": "intake: appended, not acknowledged",
    "I3": "intake: acknowledged, not committed",
    "D1": "dispatch: create not sent",
    "D2": "dispatch: created, its answer lost",
    "D3": "dispatch: dispatched not acknowledged",
    "D4": "dispatch: won, not enqueued",
    "D5": "dispatch: enqueued, its answer lost",
    "D6": "dispatch: before queued",
    "W1": "worker: popped, not claimed",
    "W2": "worker: started not acknowledged",
    "W3": "worker: won, ClearML not told",
    "W4": "worker: training",
    "W5": "worker: uploaded, no outcome appended",
    "W6": "worker: outcome appended, ClearML not closed",
    "O1": "outcome: attempt ended, run's end not appended",
    "O2": "outcome: run's end appended, not copied",
    "P1": "projection: folded, not stored",
    "P2": "projection: stored",
    "Q1": "stats: counted, no checkpoint",
    "Q2": "stats: checkpoint not acknowledged",
}
_RULE = re.compile(
    r"^(?P<name>[A-Z]\d)(?::(?P<action>kill|stop|raise|sleep))(?:=(?P<argument>[0-9.]+))?(?:@(?P<hit>\d+))?$"
)


class FailpointReached(RuntimeError):
    """A failpoint with the action `raise` was passed."""


class FailpointSyntaxError(ValueError):
    """The setting is no list of rules."""


@dataclass(slots=True)
class _Rule:
    action: str
    argument: float
    hit: int | None
    passes: int = 0


_rules: dict[str, list[_Rule]] = {}


def configure_failpoints(setting: str | None) -> None:
    """Replace all rules. None or empty turns them off. Raises FailpointSyntaxError."""
    rules: dict[str, list[_Rule]] = {}
    for text in (setting or "").split(","):
        if not text.strip():
            continue
        match = _RULE.match(text.strip())
        if match is None or match["name"] not in WINDOWS:
            raise FailpointSyntaxError(
                f"{VARIABLE}: '{text.strip()[:40]}' is no rule; write NAME:kill|stop|raise|sleep[=SECONDS][@HIT],"
                f" NAME one of {', '.join(WINDOWS)}"
            )
        argument = float(match["argument"]) if match["argument"] else 1.0
        hit = int(match["hit"]) if match["hit"] else None
        rules.setdefault(match["name"], []).append(_Rule(match["action"], argument, hit))
    _rules.clear()
    _rules.update(rules)


def configure_failpoints_from_environment() -> None:
    """Read the rules from the environment; a process calls this once, before its work. Raises FailpointSyntaxError."""
    configure_failpoints(os.environ.get(VARIABLE))


def failpoint(name: str) -> None:
    """Pass the place `name`: nothing happens unless a rule for it is due."""
    rules = _rules.get(name)
    if rules is None:
        return
    for rule in rules:
        rule.passes += 1
        if rule.hit is None or rule.passes == rule.hit:
            _act(name, rule)


def _act(name: str, rule: _Rule) -> None:
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif rule.action == "sleep":
        time.sleep(rule.argument)
    else:
        raise FailpointReached(f"failpoint {name} reached")
