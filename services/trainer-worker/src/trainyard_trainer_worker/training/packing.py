"""The model as one file: a tar.gz whose bytes depend on its content only.

Members: `manifest.json` (what it is, of what it was made, hashes of the other members), `model.pkl` (a pickled
scikit-learn pipeline: load it from sources that you trust only), `sample.json` (held-out rows and the predictions that
the model gave when it was trained). For classification the pipeline predicts codes; `manifest.classes[code]` is the
label.
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
SAMPLE_ROWS = 50


class BadArchive(ValueError):
    """The file is no model archive of ours, or its content does not match its manifest. Says which."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A model archive that was read: hashes checked, nothing unpickled."""

    manifest: Mapping[str, Any]
    model: bytes
    sample: Mapping[str, Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The features, in the model's order."""
        return tuple(Column(**column) for column in self.manifest["columns"])


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
    path: Path, manifest: Mapping[str, Any], columns: Sequence[Column], model: bytes, sample: Mapping[str, Any]
) -> ModelFile:
    """Write the archive to `path` by a rename. The same arguments give the same bytes."""
    members = {MODEL: model, SAMPLE: canonical(sample)}
    complete = {
        "format": FORMAT,
        **manifest,
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
    """Read and check an archive. Nothing is written to disk and nothing is unpickled.

    Raises BadArchive for another hash, unknown, doubled, linked or oversized members, or a member that differs from
    the manifest. OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        if expected_sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != expected_sha256:
            raise BadArchive("the archive's SHA-256 is not the expected one: it was changed or cut")
        file.seek(0)
        try:
            members = _members(file)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
            raise BadArchive(f"not a readable tar.gz: {error}") from error
    missing = {MANIFEST, MODEL, SAMPLE} - members.keys()
    if missing:
        raise BadArchive(f"the archive lacks {', '.join(sorted(missing))}")
    try:
        manifest = json.loads(members[MANIFEST])
        sample = json.loads(members[SAMPLE])
        listed = {name: manifest["files"][name]["sha256"] for name in (MODEL, SAMPLE)}
    except (ValueError, KeyError, TypeError) as error:
        raise BadArchive(f"the manifest or the sample cannot be read: {error!r}") from error
    if manifest.get("format") != FORMAT:
        raise BadArchive(f"the manifest's format is not {FORMAT}")
    for name, digest in listed.items():
        if sha256(members[name]) != digest:
            raise BadArchive(f"{name} does not match the manifest: it was changed")
    return Archive(manifest, members[MODEL], sample)


def _members(file: Any) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=file, mode="r|gz") as tar:
        for info in tar:
            limit = {MANIFEST: MAX_META_BYTES, SAMPLE: MAX_META_BYTES, MODEL: MAX_MODEL_BYTES}.get(info.name)
            if limit is None or info.name in members or not info.isreg():
                raise BadArchive(f"the archive holds {info.name[:80]!a}, which has no place in it")
            if info.size > limit:
                raise BadArchive(f"{info.name} has {info.size} bytes; at most {limit} are taken")
            content = tar.extractfile(info)
            members[info.name] = b"" if content is None else content.read()
    return members
