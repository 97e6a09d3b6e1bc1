"""What a child's end means, case by case."""

from __future__ import annotations

import re
import signal
from dataclasses import replace

import pytest

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_verdict import End, judge
from trainyard_trainer_worker.fork_servers import LOST
from trainyard_trainer_worker.spec import Failed, ModelFile, Stopped, Succeeded

KILLED = -int(signal.SIGKILL)
DEAD = End(
    status=1,
    found=None,
    stopped=None,
    overran=False,
    elapsed_s=7.0,
    deadline_s=60.0,
    last_said="",
    memory_limit_bytes=100,
    over_memory_bytes=None,
    oom_killed=None,
)
WON = Succeeded({"value": 1.0}, ModelFile("model.tar.gz", "ab", 3))
GAVE_UP = Failed(Reason.INVALID_DATASET, "one_class", "all the same")


@pytest.mark.parametrize(
    ("end", "reason", "detail", "says"),
    [
        (replace(DEAD, status=7, last_said="no libx"), Reason.TRAINER_ERROR, "child_died", "status 7.*no libx"),
        (
            replace(DEAD, last_said="OpenBLAS error: Memory allocation still failed after 10 retries, giving up."),
            Reason.OUT_OF_MEMORY,
            "memory",
            "limit: 100 bytes.*status 1.*OpenBLAS",
        ),
        (replace(DEAD, status=-11), Reason.TRAINER_ERROR, "child_died", "SIGSEGV"),
        (replace(DEAD, status=KILLED, oom_killed=True), Reason.OUT_OF_MEMORY, "child_died", "us: the system ran out"),
        (replace(DEAD, status=KILLED, oom_killed=None), Reason.OUT_OF_MEMORY, "child_died", "most likely"),
        (replace(DEAD, status=KILLED, oom_killed=False), Reason.TRAINER_ERROR, "child_died", "from outside"),
        (replace(DEAD, status=KILLED, over_memory_bytes=101), Reason.OUT_OF_MEMORY, "memory", "held 101 bytes"),
        (replace(DEAD, status=KILLED, overran=True), Reason.DEADLINE, "attempt_deadline", "deadline_s is 60"),
        (replace(DEAD, status=LOST), Reason.INTERNAL, "child_died", "fork server"),
        (replace(DEAD, found=GAVE_UP), Reason.INVALID_DATASET, "one_class", "all the same"),
        (replace(DEAD, found=GAVE_UP, overran=True), Reason.DEADLINE, "attempt_deadline", "after 7.0 s"),
    ],
)
def test_a_failure_has_the_right_reason(end: End, reason: Reason, detail: str, says: str) -> None:
    failure = judge(end)
    assert isinstance(failure, Failed)
    assert (failure.reason, failure.detail) == (reason, detail)
    assert re.search(says, failure.message), failure.message


def test_what_was_won_stays_won_unless_we_were_told_to_stop() -> None:
    late = replace(DEAD, found=WON, overran=True, over_memory_bytes=101, status=LOST)
    assert judge(late) == WON
    assert judge(replace(late, stopped=Reason.USER)) == Stopped(Reason.USER)
