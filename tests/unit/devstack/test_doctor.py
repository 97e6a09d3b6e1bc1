from __future__ import annotations

from pathlib import Path

import pytest

from trainyard_devstack.doctor import check_memory, check_python, examine, exit_status
from trainyard_devstack.findings import Finding, Level
from trainyard_devstack.settings import StackSettings


def settings(home: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> StackSettings:
    for name in ("TRAINYARD_DATA_ROOTS", "TRAINYARD_TOPIC_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TRAINYARD_HOME": str(home), **variables}.items():
        monkeypatch.setenv(name, value)
    return StackSettings()


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in findings}


def test_a_sound_machine_without_a_stack_has_nothing_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = list(examine(settings(tmp_path / "not-yet", monkeypatch)))
    assert levels(findings)["stack"] is Level.NOTE
    assert "trainyard up" in findings[-1].message
    assert exit_status(findings) == 0
    assert not (tmp_path / "not-yet").exists()


def test_a_data_root_that_is_no_folder_has_to_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = list(examine(settings(tmp_path, monkeypatch, TRAINYARD_DATA_ROOTS=str(tmp_path / "none"))))
    assert levels(findings)["data root"] is Level.CHANGE
    assert exit_status(findings) == 78


@pytest.mark.parametrize(("version", "level"), [((3, 10), Level.CHANGE), ((3, 11), Level.OK), ((3, 14), Level.CHANGE)])
def test_a_python_that_is_not_supported_has_to_be_changed(version: tuple[int, int], level: Level) -> None:
    assert check_python(version).level is level


def test_scarce_memory_is_noted(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 2000000 kB\nMemAvailable: 300000 kB\n")
    assert check_memory(meminfo).level is Level.NOTE
    meminfo.write_text("MemAvailable: 3000000 kB\n")
    assert check_memory(meminfo) == Finding("memory", Level.OK, "2,929 MB available")
    assert check_memory(tmp_path / "none").level is Level.NOTE


def test_what_has_to_be_changed_goes_before_what_may_get_well() -> None:
    fails, change = Finding("a", Level.FAILS, ""), Finding("b", Level.CHANGE, "")
    assert exit_status([fails]) == 5
    assert exit_status([fails, change]) == 78
    assert exit_status([Finding("c", Level.NOTE, "")]) == 0


def test_a_clearml_of_the_users_own_is_asked_where_no_stack_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"CLEARML_API_ACCESS_KEY": "a-key", "CLEARML_API_SECRET_KEY": "a-secret"}
    own = settings(tmp_path, monkeypatch, CLEARML_API_HOST="http://127.0.0.1:1", **keys)
    (silent,) = [finding for finding in examine(own) if finding.check == "clearml"]
    assert (silent.level, "connection error" in silent.message) == (Level.FAILS, True)
    wrong = settings(tmp_path, monkeypatch, CLEARML_API_HOST="http://u:planted-secret@127.0.0.1:1")
    (refused,) = [finding for finding in examine(wrong) if finding.check == "clearml"]
    assert (refused.level, "planted-secret" in refused.message) == (Level.CHANGE, False)
