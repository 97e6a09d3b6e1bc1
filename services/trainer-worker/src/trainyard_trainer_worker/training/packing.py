"""The model as one file: a tar.gz whose bytes depend on its content only.

Members: `manifest.json` (what it is, of what it was made, hashes of the other members), the model, `sample.json`
(held-out rows and the predictions that the model gave when it was trained). The model is `model.pkl` (a pickled
scikit-learn pipeline), or a folder that its library loads; `manifest.model` says which and how. Loading runs code:
load models from sources that you trust only. For classification a model predicts codes; `manifest.classes[code]` is
the label.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainyard_trainer_worker.spec import ModelFile
from trainyard_trainer_worker.training.evaluation import Predictions
from trainyard_trainer_worker.training.frames import Column

FORMAT = "trainyard-model/1"
MANIFEST, MODEL, SAMPLE = "manifest.json", "model.pkl", "sample.json"
MAX_META_BYTES = 64 << 20
MAX_MODEL_BYTES = 4 << 30
MAX_MODEL_FILES = 10_000
MAX_NAME_CHARS = 400
SAMPLE_ROWS = 50
PICKLE = "pickle"


class BadArchive(ValueError):
    """The file is no model archive of ours, or its content does not match its manifest. Says which."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A model as it is stored: `files` are members of the archive by name, all of them `path` or below it.

    `format` names how it is loaded (`loading.load` knows them), `load` is the Python expression that does so where the
    archive was unpacked.
    """

    format: str
    path: str
    load: str
    files: Mapping[str, bytes]


def pickled(content: bytes) -> Saved:
    """A model that is one pickle."""
    return Saved(PICKLE, MODEL, f"pickle.load(open('{MODEL}', 'rb'))", {MODEL: content})


def folder(root: Path, name: str, *, format: str, load: str) -> Saved:
    """A model that its library saved as the folder `root`, to be stored as `name`. Links and empty folders are left
    out."""
    found = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    files = {f"{name}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in found}
    return Saved(format, name, load, files)


@dataclass(frozen=True, slots=True)
class Archive:
    """A model archive that was read: hashes checked, nothing loaded. `files` are the model's members by name."""

    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]
    sample: Mapping[str, Any]

    @property
    def format(self) -> str:
        """How the model is loaded."""
        return str(self.manifest["model"]["format"])

    @property
    def model(self) -> bytes:
        """The pickle. Raises KeyError where the model is a folder."""
        return self.files[MODEL]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The features, in the model's order."""
        return tuple(
            Column(column["name"], column["kind"], tuple(column.get("values", ())))
            for column in self.manifest["columns"]
        )


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(content: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def sample_of(rows: Sequence[Sequence[Any]], predictions: Predictions) -> dict[str, Any]:
    """The `sample.json` of some held-out rows."""
    probabilities = predictions.probabilities
    return {
        "rows": [list(row) for row in rows],
        "values": predictions.values.tolist(),
        "probabilities": None if probabilities is None else probabilities.tolist(),
    }


def prediction_hash(predictions: Predictions) -> str:
    """A hash of predictions to nine significant digits: equal for models that predict alike."""
    numbers = predictions.values if predictions.probabilities is None else predictions.probabilities
    return sha256("\n".join(f"{value:.9g}" for value in numbers.ravel().tolist()).encode())


def pack(
    path: Path, manifest: Mapping[str, Any], columns: Sequence[Column], model: Saved, sample: Mapping[str, Any]
) -> ModelFile:
    """Write the archive to `path` by a rename. The same arguments give the same bytes."""
    members = {**model.files, SAMPLE: canonical(sample)}
    complete = {
        "format": FORMAT,
        **manifest,
        "model": {"format": model.format, "path": model.path, "load": model.load},
        "columns": [asdict(column) for column in columns],
        "files": {name: {"sha256": sha256(content), "size": len(content)} for name, content in members.items()},
    }
    members[MANIFEST] = json.dumps(complete, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode()
    partial = path.with_name(path.name + ".partial")
    with (
        partial.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(members[name]))
    partial.replace(path)
    with path.open("rb") as packed:
        digest = hashlib.file_digest(packed, "sha256").hexdigest()
    return ModelFile(path.name, digest, path.stat().st_size)


def read(path: Path, expected_sha256: str | None = None) -> Archive:
    """Read and check an archive. Nothing is written to disk and nothing is loaded.

    Raises BadArchive for another hash, members that are unknown, doubled, linked, oversized or named so that they
    could lie elsewhere, or a member that differs from the manifest. OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        if expected_sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != expected_sha256:
            raise BadArchive("the archive's SHA-256 is not the expected one: it was changed or cut")
        file.seek(0)
        try:
            members = _members(file)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
            raise BadArchive(f"not a readable tar.gz: {error}") from error
    missing = {MANIFEST, SAMPLE} - members.keys()
    if missing:
        raise BadArchive(f"the archive lacks {', '.join(sorted(missing))}")
    try:
        manifest = json.loads(members.pop(MANIFEST))
        sample = json.loads(members[SAMPLE])
        listed = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
        root = str(manifest["model"]["path"])
        known = isinstance(manifest["model"]["format"], str) and manifest["format"] == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadArchive(f"the manifest or the sample cannot be read: {error!r}") from error
    if not known:
        raise BadArchive(f"the manifest's format is not {FORMAT}")
    _compare(members, listed)
    files = {name: content for name, content in members.items() if name != SAMPLE}
    if not files or any(name != root and not name.startswith(f"{root}/") for name in files):
        raise BadArchive(f"the model is not at {root[:80]!a}, where the manifest says that it is")
    return Archive(manifest, files, sample)


def _compare(members: Mapping[str, bytes], listed: Mapping[str, str]) -> None:
    lacking = sorted(listed.keys() - members.keys())
    if lacking:
        raise BadArchive(f"the archive lacks {', '.join(name[:80] for name in lacking[:3])}")
    for name, content in members.items():
        if name not in listed:
            raise BadArchive(f"the archive holds {name[:80]!a}, which has no place in it")
        if sha256(content) != listed[name]:
            raise BadArchive(f"{name} does not match the manifest: it was changed")


def _members(file: Any) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    room = MAX_MODEL_BYTES
    with tarfile.open(fileobj=file, mode="r|gz") as tar:
        for info in tar:
            if info.name in members or not info.isreg() or not _stays_inside(info.name):
                raise BadArchive(f"the archive holds {info.name[:80]!a}, which has no place in it")
            limit = MAX_META_BYTES if info.name in (MANIFEST, SAMPLE) else room
            if info.size > limit or len(members) > MAX_MODEL_FILES:
                raise BadArchive(f"{info.name} has {info.size} bytes; at most {limit} are taken")
            content = tar.extractfile(info)
            members[info.name] = b"" if content is None else content.read()
            room -= 0 if info.name in (MANIFEST, SAMPLE) else info.size
    return members


def _stays_inside(name: str) -> bool:
    """Whether a member's name is a plain relative path."""
    return (
        len(name) <= MAX_NAME_CHARS
        and name.isprintable()
        and "\\" not in name
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )
