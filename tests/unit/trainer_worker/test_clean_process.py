"""The clean process: it answers whatever a model does, or what is known of its end is told; and it never stays."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.integration.trainer_worker.stage import until
from tests.unit.trainer_worker.test_packing import COLUMNS, ROWS, packed
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, Detail, ModelFile
from trainyard_trainer_worker.training import model_check, packing
from trainyard_trainer_worker.training.clean_process import CleanProcess, NoAnswer
from trainyard_trainer_worker.training.evaluation import Predictions
from trainyard_trainer_worker.training.model_check import ModelCheck

GOOD, WRONG = [2.0, 5.0, 2.0], [2.0, 5.5, 2.0]


class WhenLoaded:
    """A model that is the call `function(*arguments)`, made where it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def a_model_that(folder: Path, function: Callable[..., Any], *arguments: Any) -> tuple[Path, str]:
    predictions = Predictions(np.array(GOOD), None)
    manifest = {"classes": [], "prediction_sha256": packing.prediction_hash(predictions)}
    content = packing.pickled(pickle.dumps(WhenLoaded(function, *arguments)))
    file = packing.pack(folder / "model.tar.gz", manifest, COLUMNS, content, packing.sample_of(ROWS, predictions))
    return folder / file.path, file.sha256


@pytest.fixture
def spawned() -> Iterator[CleanProcess]:
    clean_process = CleanProcess.spawn("sklearn.linear_model")
    yield clean_process
    clean_process.end()
    assert not psutil.pid_exists(clean_process.pid)


def test_a_good_model_is_good_and_one_that_predicts_otherwise_is_not(tmp_path: Path, spawned: CleanProcess) -> None:
    verdict = spawned.ask(*packed(tmp_path, GOOD), limit_s=60)
    assert (verdict["ok"], verdict["rows"], verdict["max_difference"], verdict["problem"]) == (True, 3, 0.0, None)
    path, sha256 = packed(tmp_path, WRONG)
    with ModelCheck("sklearn") as check, pytest.raises(AttemptError) as raised:
        check.check(tmp_path, ModelFile(path.name, sha256, path.stat().st_size))
    assert (raised.value.reason, raised.value.detail) == (Reason.TRAINER_ERROR, Detail.MODEL_DIFFERS)
    assert "the packed model failed: predictions differ by up to 0.0909" in raised.value.message


def test_what_a_model_prints_is_not_taken_for_the_answer(tmp_path: Path, spawned: CleanProcess) -> None:
    verdict = spawned.ask(*a_model_that(tmp_path, print, '{"ok": true}'), limit_s=60)
    assert (verdict["ok"], "cannot be loaded or asked" in verdict["problem"]) == (False, True)


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        (os._exit, (7,), "status 7"),
        (os.kill, (0, signal.SIGKILL), "status -9"),
        (time.sleep, (60,), "none within 2 s"),
    ],
    ids=["exits", "is killed", "hangs"],
)
def test_a_model_that_ends_its_process_or_hangs_is_no_good_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], arguments: Any, says: str
) -> None:
    with ModelCheck("sklearn") as check:
        process = check.start()
        if function is os.kill:
            arguments = (process.pid, signal.SIGKILL)
        path, sha256 = a_model_that(tmp_path, function, *arguments)
        monkeypatch.setattr(model_check, "LIMIT_S", 2.0 if function is time.sleep else 60.0)
        with pytest.raises(AttemptError, match=rf"gave no answer \(.*{says}\)") as raised:
            check.check(tmp_path, ModelFile(path.name, sha256, path.stat().st_size))
    assert raised.value.detail == Detail.MODEL_DIFFERS
    assert not psutil.pid_exists(process.pid)


def test_one_that_was_killed_before_it_was_asked_says_so(tmp_path: Path, spawned: CleanProcess) -> None:
    os.kill(spawned.pid, signal.SIGKILL)
    until(lambda: psutil.Process(spawned.pid).status() == psutil.STATUS_ZOMBIE, "it is dead")
    with pytest.raises(NoAnswer, match="status -9"):
        spawned.ask(*packed(tmp_path, GOOD), limit_s=60)


def script(body: str, *arguments: str) -> subprocess.Popen[str]:
    """A fresh interpreter, which has computed nothing, on this body."""
    head = "import os, resource, sys\nfrom trainyard_trainer_worker.training.clean_process import CleanProcess\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(body), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_forked_one_has_what_was_loaded_may_hold_as_much_as_its_maker_and_keeps_no_descriptor_open(
    tmp_path: Path,
) -> None:
    say = "import resource, sys; print('numpy' in sys.modules, resource.getrlimit(resource.RLIMIT_DATA)[0], flush=True)"
    path, sha256 = a_model_that(tmp_path, exec, say)
    body = f"""
        from trainyard_trainer_worker.training import verification
        reader, writer = os.pipe()
        clean_process = CleanProcess.fork(close=(writer,))
        os.close(writer)
        print(os.read(reader, 1))
        resource.setrlimit(resource.RLIMIT_DATA, ({5 << 30}, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        print(clean_process.ask({str(path)!r}, {sha256!r}, 60)["problem"])
        clean_process.end()
        print(os.path.exists(f"/proc/{{clean_process.pid}}"))
    """
    said = script(body).communicate(timeout=60)[0].splitlines()
    assert said[0] == "b''", "nobody holds the pipe that was to be closed"
    assert said[1] == f"True {5 << 30}"
    assert said[2].startswith("the model cannot be loaded or asked: AttributeError")
    assert said[3:] == ["False"]


def test_a_forked_one_ends_with_its_maker() -> None:
    maker = script("clean_process = CleanProcess.fork()\nprint(clean_process.pid, flush=True)\nsys.stdin.read()\n")
    assert maker.stdout is not None
    pid = int(maker.stdout.readline())
    assert psutil.pid_exists(pid)
    maker.kill()
    maker.communicate(timeout=30)
    until(lambda: not psutil.pid_exists(pid), "the clean process is gone")


def test_time_that_both_stood_still_is_not_time_without_an_answer(tmp_path: Path) -> None:
    path, sha256 = a_model_that(tmp_path, time.sleep, 1.5)
    body = f"""
        from trainyard_trainer_worker.training import verification
        clean_process = CleanProcess.fork()
        print("asks", flush=True)
        print(clean_process.ask({str(path)!r}, {sha256!r}, 3)["problem"])
    """
    asker = script(body)
    assert asker.stdout is not None
    assert asker.stdout.readline() == "asks\n"
    os.killpg(asker.pid, signal.SIGSTOP)
    try:
        time.sleep(4)  # longer than the limit
    finally:
        os.killpg(asker.pid, signal.SIGCONT)
    assert "cannot be loaded or asked" in asker.communicate(timeout=30)[0]
