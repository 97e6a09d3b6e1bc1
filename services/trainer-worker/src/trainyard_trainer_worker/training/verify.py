"""`python -m trainyard_trainer_worker.training.verify ARCHIVE`: does a packed model still predict as it did?

Reads the archive with every hash checked, loads the model in this clean process, predicts the sample and compares.
Prints one line of JSON; exits 0 when all agree, 1 when not, 2 for wrong usage. With `--wait` the libraries are loaded
first and the archive's path and SHA-256 are then read as one line of JSON from standard input.

Loading a model runs code: verify only archives whose origin you trust (give `--sha256`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

from trainyard_trainer_worker.processes import die_with_parent


def main(arguments: list[str] | None = None) -> int:
    """Parse, verify, print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainyard_trainer_worker.training.verify", description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, help="the model.tar.gz")
    parser.add_argument("--sha256", help="the SHA-256 that the archive must have")
    parser.add_argument("--wait", action="store_true", help="load the libraries, then read the task from stdin")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    parser.add_argument("--preload", default="", help="modules to import first, separated by commas")
    args = parser.parse_args(arguments)
    path, expected = args.archive, args.sha256
    if args.parent_pid is not None:
        die_with_parent(args.parent_pid)  # first: the imports below take seconds
    from trainyard_trainer_worker.training.verification import verify

    for module in filter(None, args.preload.split(",")):
        importlib.import_module(module)
    if args.wait:
        line = sys.stdin.readline()
        if not line.strip():
            return 2
        task = json.loads(line)
        path, expected = Path(task["path"]), task["sha256"]
    if path is None:
        parser.error("name the archive, or use --wait")
    verdict = verify(path, expected)
    sys.stdout.write(json.dumps(verdict) + "\n")
    return 0 if verdict["ok"] else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # taking the libraries down in order costs 0.3 s
