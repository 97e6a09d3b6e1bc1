"""Where an uploaded data file stands on ClearML's file server: a path made of what its bytes are.

The uploader and the worker share this rule, so the same content is uploaded once, and the reader can tell whether the
bytes are the ones that the request meant.
"""

from __future__ import annotations

import re
from typing import Final

FOLDER: Final = "trainyard/datasets/sha256"

_PATH: Final = re.compile(rf"(?:^|/){re.escape(FOLDER)}/([0-9a-f]{{64}})\.csv$")


def content_path(sha256: str) -> str:
    """The path below the file server's root of the CSV file whose SHA-256 (64 hex digits, lower case) is given."""
    return f"{FOLDER}/{sha256}.csv"


def claimed_sha256(path: str) -> str | None:
    """The SHA-256 that a path claims for its content; None where it claims none."""
    found = _PATH.search(path)
    return found[1] if found else None
