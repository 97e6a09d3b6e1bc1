"""A packed model back as an object that predicts: the one place that knows every format of `manifest.model`."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

from trainyard_trainer_worker.training.packing import PICKLE, Archive, BadArchive

# Format -> the module that loads it, which is imported only then: it needs its library.
_FOLDERS = {"autogluon.tabular": "trainyard_trainer_worker.trainers.autogluon_model"}


def load(archive: Archive, folder: Path) -> Any:
    """The model of an archive, with `predict`, and for classification `predict_proba` and `classes_` (codes).

    A model that is a folder is unpacked below the empty `folder`, which must stay for as long as the model is used.
    Runs code from the archive: its origin must be trusted. Raises BadArchive for an unknown format, ImportError where
    the model's library is not installed; loading may raise whatever the library raises.
    """
    if archive.format == PICKLE:
        return pickle.loads(archive.model)  # noqa: S301 - the archive's hashes were checked against the manifest
    if archive.format not in _FOLDERS:
        raise BadArchive(f"the model's format {archive.format[:80]!a} is unknown to this version")
    for name, content in archive.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return importlib.import_module(_FOLDERS[archive.format]).load(folder / str(archive.manifest["model"]["path"]))
