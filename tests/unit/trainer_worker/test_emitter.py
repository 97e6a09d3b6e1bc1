from __future__ import annotations

import contextlib
import json
import math
import os
from typing import Any

import pytest

from trainyard_trainer_worker import child_events
from trainyard_trainer_worker.child_events import Phase, PhaseEnded, PhaseStarted, Progress, Scalar, Warned
from trainyard_trainer_worker.training.emitter import COPY_STATUS, MAX_SCALARS, MAX_WARNINGS, Emitter
from trainyard_trainer_worker.training.jsonsafe import json_safe


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def said(reader: int, writer: int) -> list[child_events.ChildEvent]:
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        return [child_events.decode(line) for line in lines]


def test_phases_are_announced_and_timed() -> None:
    reader, writer = os.pipe()
    clock = Clock()
    emitter = Emitter(writer, clock)
    with emitter.in_phase(Phase.FIT):
        clock.now = 2.5
    assert said(reader, writer) == [PhaseStarted(Phase.FIT), PhaseEnded(Phase.FIT, 2.5)]
    assert emitter.seconds == {"fit": 2.5}


@pytest.mark.parametrize("raises", [False, True])
def test_a_copy_of_the_process_ends_with_the_phase_in_which_it_was_forked(raises: bool) -> None:
    beyond = 77
    pid = 0
    try:
        with contextlib.suppress(ValueError), Emitter(None).in_phase(Phase.FIT):
            pid = os.fork()
            if pid == 0 and raises:
                raise ValueError("only the copy")
    finally:
        if pid == 0:
            os._exit(beyond)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == COPY_STATUS


def test_progress_is_thinned_but_its_last_word_is_kept() -> None:
    reader, writer = os.pipe()
    clock = Clock()
    emitter = Emitter(writer, clock)
    with emitter.in_phase(Phase.FIT):
        for step in range(1, 101):
            clock.now += 0.01
            emitter.progress(step, 100, None, {"loss": math.nan, "best": 0.5})
    steps = [e for e in said(reader, writer) if isinstance(e, Progress)]
    assert len(steps) < 10
    assert steps[0].step == 1
    assert steps[-1] == Progress(100, 100, None, {"best": 0.5})


def test_scalars_and_warnings_are_bounded_and_finite() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, True)
    emitter = Emitter(writer)
    emitter.scalar("loss", "train", math.inf, 1)
    emitter.scalar("loss", "train", 0.5, 2)
    emitter.warn("twice")
    emitter.warn("twice")
    assert said(reader, writer) == [Scalar("loss", "train", 0.5, 2), Warned("twice")]
    quiet = Emitter(None)
    for i in range(MAX_WARNINGS + 10):
        quiet.warn(f"{i}")
    assert len(quiet.warnings) == MAX_WARNINGS
    assert MAX_SCALARS > 0


def test_a_reader_that_is_gone_does_not_end_the_training() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    emitter = Emitter(writer)
    emitter.warn("nobody hears this")
    emitter.warn("nor this")
    os.close(writer)
    assert emitter.warnings == ["nobody hears this", "nor this"]


@pytest.mark.parametrize("line", [b"", b"5", b"[]", b"{}", b'{"event": "nonsense"}', b'{"event": "scalar"}', b"\xff"])
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        child_events.decode(line)


def test_library_values_become_plain_json() -> None:
    import numpy as np

    value: Any = {
        "f": np.float64(0.5),
        "i": np.int64(3),
        "b": np.bool_(True),
        "nan": math.nan,
        "inf": np.float32("inf"),
        "array": np.array([1.0, math.nan]),
        "text": np.str_("gini"),
        "object": object,
        3: (1, {2}),
    }
    assert json.loads(json.dumps(json_safe(value), allow_nan=False)) == {
        "f": 0.5,
        "i": 3,
        "b": True,
        "nan": None,
        "inf": None,
        "array": [1.0, None],
        "text": "gini",
        "object": "<class 'object'>",
        "3": [1, [2]],
    }
