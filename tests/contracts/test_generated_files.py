"""The files of the contracts are those that the code makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.contracts.files import SCHEMAS
from trainyard_schemas import generate
from trainyard_schemas.documents import asyncapi


def _copy(tmp_path: Path) -> Path:
    folder = tmp_path / "schemas"
    for part in ("draft", "examples"):
        shutil.copytree(SCHEMAS / part, folder / part)
    shutil.copy(SCHEMAS / "asyncapi.yaml", folder)
    return folder


def test_the_committed_files_are_what_the_code_makes() -> None:
    assert generate.drift(SCHEMAS) == []


def test_a_changed_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _copy(tmp_path)
    schema = folder / "draft" / "run.accepted" / "1.json"
    schema.write_text(schema.read_text().replace("tenant", "owner"))
    assert generate.main(["--check", str(folder)]) == 1
    assert "draft/run.accepted/1.json: differs from the code" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "asyncapi.yaml").unlink()
    assert generate.drift(folder) == ["asyncapi.yaml: is missing; it belongs to the code"]


def test_a_file_of_no_event_is_named(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "draft" / "run.forgotten").mkdir()
    (folder / "draft" / "run.forgotten" / "1.json").write_text("{}")
    assert generate.drift(folder) == ["draft/run.forgotten/1.json: belongs to no event; remove it"]


def test_writing_heals_every_drift_but_removes_nothing(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    shutil.rmtree(folder / "draft")
    assert generate.main([str(folder)]) == 0
    assert generate.drift(folder) == []


def test_a_folder_without_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        generate.main([str(tmp_path)])
    assert refused.value.code == 2


def test_the_yaml_says_what_the_document_says() -> None:
    written = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
    assert written == asyncapi(generate.load_examples(SCHEMAS), generate.load_serving_examples(SCHEMAS))
