from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainyard_trainer_worker.training import frames, packing
from trainyard_trainer_worker.training.evaluation import Predictions
from trainyard_trainer_worker.training.frames import Column
from trainyard_trainer_worker.training.packing import BadArchive
from trainyard_trainer_worker.training.verification import verify
from trainyard_trainer_worker.training.verify import main

COLUMNS = (Column("x", "number"),)
ROWS: list[list[float | None]] = [[1.0], [2.5], [None]]


def packed(folder: Path, values: list[float]) -> tuple[Path, str]:
    """An archive of a linear model, with `values` as what it is said to predict."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    features = frames.from_records([[0.0], [1.0], [2.0]], COLUMNS)
    model = make_pipeline(SimpleImputer(), LinearRegression()).fit(features, [0.0, 2.0, 4.0])
    predictions = Predictions(np.array(values), None)
    manifest = {"classes": [], "prediction_sha256": packing.prediction_hash(predictions)}
    file = packing.pack(
        folder / "model.tar.gz",
        manifest,
        COLUMNS,
        packing.pickled(pickle.dumps(model)),
        packing.sample_of(ROWS, predictions),
    )
    return folder / file.path, file.sha256


def rewrite(path: Path, change: Mapping[str, bytes | tarfile.TarInfo | None]) -> None:
    """Replace, add (a name that is absent) or drop (None) members, keeping the rest."""
    with tarfile.open(path) as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {**members, **change}.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            elif content is not None:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert packed(tmp_path / "a", [2.0, 5.0, 2.0])[1] == packed(tmp_path / "b", [2.0, 5.0, 2.0])[1]


def test_a_sound_archive_verifies_and_reads_back(tmp_path: Path) -> None:
    path, digest = packed(tmp_path, [2.0, 5.0, 2.0])
    verdict = verify(path, digest)
    assert verdict["ok"] is True
    assert verdict["rows"] == 3
    assert packing.read(path, digest).columns == COLUMNS


def test_a_model_that_predicts_otherwise_is_caught(tmp_path: Path) -> None:
    path, digest = packed(tmp_path, [2.0, 5.0, 2.001])
    verdict = verify(path, digest)
    assert verdict["ok"] is False
    assert "differ by up to" in verdict["problem"]


def test_another_hash_is_caught_before_anything_is_read(tmp_path: Path) -> None:
    path, digest = packed(tmp_path, [2.0, 5.0, 2.0])
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadArchive, match="SHA-256"):
        packing.read(path, digest)


class Bomb:
    """Unpickling this would raise."""

    def __reduce__(self) -> Any:
        return (int, ("the pickle was loaded",))


def test_a_swapped_model_is_never_unpickled(tmp_path: Path) -> None:
    path, _ = packed(tmp_path, [2.0, 5.0, 2.0])
    rewrite(path, {packing.MODEL: pickle.dumps(Bomb())})
    assert verify(path)["problem"] == "model.pkl does not match the manifest: it was changed"


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"../../evil.py": b"x"}, "no place"),
        ({"a//b": b"x"}, "no place"),
        ({"a\\b": b"x"}, "no place"),
        ({"n" * 500: b"x"}, "no place"),
        ({"extra.py": b"x"}, "no place"),
        ({packing.MODEL: None}, r"lacks model\.pkl"),
        ({"/etc/cron.d/x": b"x"}, "no place"),
        ({packing.MODEL: link(packing.MODEL)}, "no place"),
        ({packing.SAMPLE: None}, "lacks sample.json"),
        ({packing.SAMPLE: b"{}"}, "sample.json does not match"),
        ({packing.MANIFEST: b"not json"}, "cannot be read"),
        ({packing.MANIFEST: b"{}"}, "cannot be read"),
    ],
)
def test_an_archive_that_was_touched_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path, _ = packed(tmp_path, [2.0, 5.0, 2.0])
    rewrite(path, change)
    with pytest.raises(BadArchive, match=says):
        packing.read(path)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b junk", b"plain text"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.tar.gz").write_bytes(content)
    with pytest.raises(BadArchive):
        packing.read(tmp_path / "m.tar.gz")


def test_the_command_prints_a_verdict_and_exits_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, digest = packed(tmp_path, [2.0, 5.0, 2.0])
    assert main([str(path), "--sha256", digest]) == 0
    assert '"ok": true' in capsys.readouterr().out
    assert main([str(path), "--sha256", "0" * 64]) == 1
    assert main([str(tmp_path / "absent")]) == 1


def test_the_command_ends_with_its_parent_before_it_loads_any_library() -> None:
    command = ("-X", "importtime", "-m", "trainyard_trainer_worker.training.verify", "--parent-pid", "1", "model")
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 143, "it is not a child of process 1"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "trainyard_trainer_worker.processes" in imported
    assert not {"numpy", "pandas", "sklearn"} & imported


def a_folder(root: Path) -> packing.Saved:
    """A model of two files, one of them in a folder below."""
    (root / "models" / "A").mkdir(parents=True)
    (root / "models" / "A" / "model.pkl").write_bytes(b"inner")
    (root / "version.txt").write_bytes(b"1")
    (root / "link").symlink_to("/etc/passwd")
    return packing.folder(root, "predictor", format="a.library", load="a.library.load('predictor')")


def pack_folder(folder: Path, saved: packing.Saved) -> Path:
    predictions = Predictions(np.array([1.0]), None)
    manifest = {"classes": [], "prediction_sha256": packing.prediction_hash(predictions)}
    sample = packing.sample_of([[1.0]], predictions)
    return folder / packing.pack(folder / "model.tar.gz", manifest, COLUMNS, saved, sample).path


def test_a_model_that_is_a_folder_is_packed_the_same_way_every_time_and_without_links(tmp_path: Path) -> None:
    saved = a_folder(tmp_path / "saved")
    path = pack_folder(tmp_path, saved)
    before = path.read_bytes()
    os.utime(tmp_path / "saved" / "version.txt", (0, 0))
    again = packing.folder(tmp_path / "saved", "predictor", format=saved.format, load=saved.load)
    assert pack_folder(tmp_path, again).read_bytes() == before
    with tarfile.open(path) as tar:
        assert [(info.name, info.mtime) for info in tar] == [
            ("manifest.json", 0), ("predictor/models/A/model.pkl", 0), ("predictor/version.txt", 0), ("sample.json", 0)
        ]  # fmt: skip
    archive = packing.read(path)
    assert archive.manifest["model"] == {
        "format": "a.library",
        "path": "predictor",
        "load": "a.library.load('predictor')",
    }
    assert archive.files == {"predictor/models/A/model.pkl": b"inner", "predictor/version.txt": b"1"}


@pytest.mark.parametrize("name", ["predictor/version.txt", "elsewhere/version.txt"])
def test_a_file_that_was_changed_or_added_to_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = pack_folder(tmp_path, a_folder(tmp_path / "saved"))
    rewrite(path, {name: b"2"})
    with pytest.raises(BadArchive, match=r"was changed|no place"):
        packing.read(path)


def test_files_outside_the_folder_that_the_manifest_names_are_refused(tmp_path: Path) -> None:
    saved = a_folder(tmp_path / "saved")
    moved = packing.Saved(saved.format, "other", saved.load, saved.files)
    with pytest.raises(BadArchive, match="not at 'other'"):
        packing.read(pack_folder(tmp_path, moved))


def test_a_format_of_another_version_is_said_to_be_unknown(tmp_path: Path) -> None:
    path = pack_folder(tmp_path, a_folder(tmp_path / "saved"))
    assert verify(path)["problem"] == "the model's format 'a.library' is unknown to this version"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.tar.gz", "saved"], "nothing is left behind"
