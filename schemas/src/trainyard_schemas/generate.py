"""Write the contract files from the code: `python -m trainyard_schemas.generate [--check] [FOLDER]`.

FOLDER is the one that holds `draft/`, `examples/` and `asyncapi.yaml` (default: `schemas`). `--check` writes nothing,
names every file that differs from the code, and exits 1 if there is one. The only module here that does I/O.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainyard_schemas.documents import asyncapi, json_schemas
from trainyard_schemas.topics import TopicName
from trainyard_schemas.vocabulary import EventType


class _NoAliases(yaml.SafeDumper):
    """Writes a part that stands twice twice: anchors are hard to read, and not every tool follows them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def load_examples(folder: Path) -> dict[EventType, list[tuple[str, Mapping[str, Any]]]]:
    """The golden CloudEvents `examples/<event>/<name>.json` by event type, in the order of their names."""
    return {
        event_type: [
            (path.stem, json.loads(path.read_bytes()))
            for path in sorted((folder / "examples" / event_type.short).glob("*.json"))
        ]
        for event_type in EventType
    }


def load_serving_examples(folder: Path) -> list[tuple[str, Any]]:
    """The messages `examples/clearml_inference_stats/<name>.json`, in the order of their names."""
    place = folder / "examples" / TopicName.CLEARML_INFERENCE_STATS.value
    return [(path.stem, json.loads(path.read_bytes())) for path in sorted(place.glob("*.json"))]


def render(folder: Path) -> dict[Path, str]:
    """Every generated file and its content. `folder` is read for the examples."""
    files = {
        folder / "draft" / path: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for path, schema in json_schemas().items()
    }
    document = yaml.dump(
        asyncapi(load_examples(folder), load_serving_examples(folder)),
        Dumper=_NoAliases,
        sort_keys=False,
        allow_unicode=True,
        width=120,
    )
    files[folder / "asyncapi.yaml"] = (
        f"# Generated from the code by `python -m trainyard_schemas.generate`; not edited by hand.\n{document}"
    )
    return files


def drift(folder: Path) -> list[str]:
    """What is not as `render` has it: files that are missing, differ, or belong to no event any more."""
    files = render(folder)
    wrong = [
        f"{path.relative_to(folder)}: {'differs from' if path.exists() else 'is missing; it belongs to'} the code"
        for path, content in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    ]
    strangers = sorted(set((folder / "draft").rglob("*.json")) - set(files))
    return wrong + [f"{path.relative_to(folder)}: belongs to no event; remove it" for path in strangers]


def write(folder: Path) -> None:
    """Write every generated file."""
    for path, content in render(folder).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainyard_schemas.generate", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("schemas"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs from the code")
    options = parser.parse_args(arguments)
    if not (options.folder / "examples").is_dir():
        parser.error(f"{options.folder} holds no folder examples; name the folder of the contracts")
    if not options.check:
        write(options.folder)
    found = drift(options.folder)
    for sentence in found:
        sys.stderr.write(sentence + "\n")
    if found and options.check:
        sys.stderr.write("run python -m trainyard_schemas.generate and commit what it writes\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
