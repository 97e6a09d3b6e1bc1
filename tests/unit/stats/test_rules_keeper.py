"""The keeper of a deployment's rules: what cannot be used changes nothing, and ends nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trainyard_stats.serving.metric_rules import NO_RULES, RulesError
from trainyard_stats.serving.rules_keeper import RulesKeeper

GOOD = '{"a/1": {"metrics": {"x": {"type": "counter"}}}}'


class Tasks:
    """ClearML with one control-plane task."""

    async def get_task(self, task_id: str, only_fields: Sequence[str] = ()) -> dict[str, Any] | None:
        parameter = {"General": {"metric_logging_freq": {"value": "0"}}}
        return (
            {"configuration": {"metric_logging": {"value": GOOD}}, "hyperparams": parameter} if task_id == "t" else None
        )


@pytest.mark.parametrize("wrong", [b'{"a/1": "\xff"}', b"{", b'{"a/1": 5}'])
def test_a_file_that_becomes_wrong_leaves_the_rules_and_is_looked_at_again(tmp_path: Path, wrong: bytes) -> None:
    file = tmp_path / "metric_logging.json"
    file.write_text(GOOD)
    keeper = RulesKeeper("d", file, "", None, poll_s=0.01)

    async def until(problem: bool) -> None:
        give_up_at = time.monotonic() + 60
        while bool(keeper.problem) is not problem:
            assert time.monotonic() < give_up_at, keeper.problem
            await asyncio.sleep(0.01)

    async def follow() -> None:
        await keeper.look()
        before = keeper.rules
        file.write_bytes(wrong)
        keeping = asyncio.create_task(keeper.keep())
        await until(problem=True)
        assert keeper.rules is before
        file.write_text("{}")
        await until(problem=False)
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(follow())
    assert keeper.rules.endpoints == {}


def test_a_file_that_is_no_text_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "metric_logging.json"
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(RulesError, match=r"metric_logging: is no UTF-8 text"):
        asyncio.run(RulesKeeper("d", file, "", None, poll_s=1).look())


def test_the_task_is_read_before_the_file_and_only_where_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "metric_logging.json"
    file.write_text('{"b": {"log_frequency": 0.5}}')
    of_task, of_file = (RulesKeeper("d", file, task, Tasks(), poll_s=1) for task in ("t", ""))
    neither = RulesKeeper("d", None, "", Tasks(), poll_s=1)
    for keeper in (of_task, of_file, neither):
        asyncio.run(keeper.look())
    assert (set(of_task.rules.endpoints), of_task.is_switched_off) == ({"a/1"}, True)
    assert (set(of_file.rules.endpoints), of_file.is_switched_off) == ({"b"}, False)
    assert neither.rules == NO_RULES
    with pytest.raises(RulesError, match="CLEARML_SERVING_TASK_ID: ClearML knows no task gone"):
        asyncio.run(RulesKeeper("d", None, "gone", Tasks(), poll_s=1).look())
