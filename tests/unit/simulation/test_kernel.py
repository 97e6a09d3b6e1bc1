from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from trainyard_simulation.effects import Call, Effect, Signal, Sleep, Together
from trainyard_simulation.faults import CALM, Chances, Fault, Script
from trainyard_simulation.kernel import EPOCH_S, Kernel, StuckError
from trainyard_simulation.processes import Host, Process, ProgramError
from trainyard_simulation.world import run_seed


class Lost(Exception):
    pass


class Absent(Exception):
    pass


def always(fault: Fault) -> Chances:
    """The same fault at every request."""
    return Script(dict.fromkeys(range(1, 100), fault), frozenset({"p"}))


def chances(**given: Any) -> Chances:
    return replace(CALM, **given)


def effect(applied: list[float], kernel: Kernel) -> Call:
    return Call("effect", lambda: applied.append(kernel.now), unknown=Lost, unavailable=Absent)


def run(kernel: Kernel, program: Callable[[Process], Coroutine[Effect, Any, None]], until_s: float = 100.0) -> Host:
    host = Host(kernel, "p", program)
    host.start()
    kernel.run_until(EPOCH_S + until_s)
    return host


def test_the_same_seed_is_the_same_schedule_and_another_seed_is_another_one() -> None:
    first, again, other = run_seed(11), run_seed(11), run_seed(12)
    assert (first.digest, first.steps) == (again.digest, again.steps)
    assert first.digest != other.digest


def test_keeping_a_trace_changes_nothing() -> None:
    plain, traced = run_seed(21), run_seed(21, trace=True)
    assert plain.digest == traced.digest
    assert plain.trace == ()
    assert any("append run.accepted" in line for line in traced.trace)


@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_a_seed_is_the_same_schedule_in_another_process_with_other_string_hashes(hash_seed: str) -> None:
    program = "from trainyard_simulation.world import run_seed; print(*run_seed(33, trace=True).trace, sep='\\n')"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines() == list(run_seed(33, trace=True).trace)


@pytest.mark.parametrize(
    ("fault", "times_applied", "error"),
    [
        (Fault.ABSENT, 0, Absent),
        (Fault.REQUEST_LOST, 0, Lost),
        (Fault.ANSWER_LOST, 1, Lost),
        (Fault.APPLIED_LATE, 1, Lost),
    ],
)
def test_each_fault_applies_as_often_as_it_says(fault: Fault, times_applied: int, error: type[Exception]) -> None:
    kernel = Kernel(1, chances=always(fault))
    applied: list[float] = []
    raised_at: list[float] = []

    async def program(process: Process) -> None:
        with pytest.raises(error):
            await effect(applied, kernel)
        raised_at.append(kernel.now)

    run(kernel, program)
    assert len(applied) == times_applied
    assert len(raised_at) == 1
    if fault is Fault.APPLIED_LATE:
        assert applied[0] > raised_at[0]


def test_a_request_that_was_applied_twice_is_answered_or_not() -> None:
    outcomes: set[str] = set()
    for seed in range(20):
        kernel = Kernel(seed, chances=always(Fault.APPLIED_TWICE))
        applied: list[float] = []

        async def program(process: Process, kernel: Kernel = kernel, applied: list[float] = applied) -> None:
            try:
                await effect(applied, kernel)
            except Lost:
                outcomes.add("lost")
            else:
                outcomes.add("answered")

        run(kernel, program)
        assert len(applied) == 2
    assert outcomes == {"lost", "answered"}


def test_without_faults_a_request_is_applied_once_and_answered() -> None:
    kernel = Kernel(1, chances=always(Fault.ANSWER_LOST))
    kernel.faults_on = False
    answers: list[int] = []

    async def program(process: Process) -> None:
        answers.append(await Call("read", lambda: 7, unknown=Lost))

    run(kernel, program)
    assert answers == [7]


def test_a_refusal_reaches_the_caller_as_the_servers_own_exception() -> None:
    kernel = Kernel(1)
    seen: list[str] = []

    def refuse() -> None:
        raise LookupError("no such thing")

    async def program(process: Process) -> None:
        try:
            await Call("effect", refuse, refusals=(LookupError,))
        except LookupError as refusal:
            seen.append(str(refusal))

    run(kernel, program)
    assert seen == ["no such thing"]


def test_a_crash_closes_every_coroutine_and_the_next_incarnation_remembers_nothing() -> None:
    kernel = Kernel(1)
    closed: list[str] = []
    began: list[str] = []

    async def child(process: Process) -> None:
        try:
            await Sleep(1_000.0)
        finally:
            closed.append(process.writer)

    async def program(process: Process) -> None:
        began.append(process.writer)
        kernel.spawn(process, child(process), "child")
        await Sleep(1_000.0)

    host = Host(kernel, "p", program)
    host.start()
    kernel.run_until(EPOCH_S + 1.0)
    host.kill()
    assert closed == ["p-1"]
    kernel.run_until(EPOCH_S + 60.0)
    assert began == ["p-1", "p-2"]
    assert host.process is not None
    assert host.process.incarnation == 2


def test_a_request_that_was_sent_is_applied_though_its_sender_died() -> None:
    kernel = Kernel(1)
    applied: list[float] = []

    async def program(process: Process) -> None:
        if process.incarnation == 1:
            await effect(applied, kernel)
            raise AssertionError("the dead resume")

    host = Host(kernel, "p", program)
    host.start()
    kernel.run_until(EPOCH_S)
    host.kill()
    kernel.run_until(EPOCH_S + 1.0)
    assert len(applied) == 1


def test_a_paused_process_resumes_later_while_the_server_goes_on() -> None:
    kernel = Kernel(1, chances=chances(pause=1.0, mortal=frozenset({"p"})))
    applied: list[float] = []
    resumed: list[float] = []
    paused: list[str] = []
    kernel.on_pause.append(lambda process: paused.append(process.writer))

    async def program(process: Process) -> None:
        await effect(applied, kernel)
        kernel.faults_on = False
        resumed.append(kernel.now)

    late = 0
    for seed in range(40):
        kernel.rng.seed(seed)
        kernel.faults_on = True
        run(kernel, program, until_s=(seed + 1) * 200.0)
        late += resumed[-1] - applied[-1] > 0.1
    assert len(paused) >= len(resumed) == len(applied) == 40
    assert late > 0


def test_what_is_sent_to_a_server_that_is_away_or_by_a_process_that_is_cut_off_does_not_arrive() -> None:
    kernel = Kernel(1)
    answers: list[str] = []

    async def program(process: Process) -> None:
        kernel.away_until["broker"] = kernel.now + 5.0
        for server in ("broker", "clearml"):
            for _ in range(2):
                try:
                    await Call("read", lambda: "yes", unavailable=lambda: Absent(), server=server)
                    answers.append(f"{server} answers")
                except Absent:
                    answers.append(f"{server} is away")
                    process.cut_off_until = 0.0
                await Sleep(6.0)
            process.cut_off_until = kernel.now + 3.0

    run(kernel, program)
    assert answers == ["broker is away", "broker answers", "clearml is away", "clearml answers"]


def test_a_task_that_was_closed_hears_no_more() -> None:
    kernel = Kernel(1)
    heard: list[float] = []

    async def beside() -> None:
        while True:
            await Sleep(1.0)
            heard.append(kernel.now)

    async def program(process: Process) -> None:
        task = kernel.spawn(process, beside(), "beside")
        await Sleep(3.5)
        task.close()
        await Sleep(5.0)

    run(kernel, program)
    assert len(heard) == 3


def test_a_mortal_process_dies_where_chance_wants_it() -> None:
    kernel = Kernel(1, chances=chances(crash=0.2, mortal=frozenset({"p"})))

    async def program(process: Process) -> None:
        while True:
            await Call("read", lambda: None)
            await Sleep(1.0)

    assert run(kernel, program, until_s=500.0).incarnation > 3
    assert kernel.coverage["crash before: read"] > 0
    assert kernel.coverage["crash after: read"] > 0


def test_an_error_that_no_caller_handles_ends_the_simulation_with_its_cause() -> None:
    kernel = Kernel(1)

    async def program(process: Process) -> None:
        await Sleep(1.0)
        raise KeyError("bug")

    with pytest.raises(ProgramError, match="KeyError") as caught:
        run(kernel, program)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_world_that_never_rests_is_stuck() -> None:
    kernel = Kernel(1, max_steps=100)

    async def program(process: Process) -> None:
        while True:
            await Sleep(0.01)

    with pytest.raises(StuckError, match="100 steps"):
        run(kernel, program)


def test_a_signal_that_was_set_before_anybody_waited_is_not_lost() -> None:
    kernel = Kernel(1)
    signal = Signal(kernel)
    woken: list[float] = []

    async def program(process: Process) -> None:
        await signal.wait(50.0)
        woken.append(kernel.now - EPOCH_S)
        await signal.wait(50.0)
        woken.append(kernel.now - EPOCH_S)

    signal.set()
    run(kernel, program)
    assert woken[0] < 1.0
    assert woken[1] == pytest.approx(woken[0] + 50.0)


def test_a_set_signal_wakes_whoever_waits_once() -> None:
    kernel = Kernel(1)
    signal = Signal(kernel)
    woken: list[float] = []

    async def program(process: Process) -> None:
        while True:
            await signal.wait(1_000.0)
            woken.append(kernel.now - EPOCH_S)

    kernel.after(5.0, signal.set)
    kernel.after(5.0, signal.set)
    run(kernel, program)
    assert len(woken) == 1
    assert 5.0 <= woken[0] < 5.1


def test_together_resumes_when_the_last_one_has_ended() -> None:
    kernel = Kernel(1)
    ended: list[float] = []

    async def program(process: Process) -> None:
        await Together("nothing", [])
        await Together("sleep", [sleeper(3.0), sleeper(9.0), sleeper(1.0)])
        ended.append(kernel.now - EPOCH_S)

    async def sleeper(seconds: float) -> None:
        await Sleep(seconds)

    run(kernel, program)
    assert ended == pytest.approx([9.0])
