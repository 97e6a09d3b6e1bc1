"""`python -m trainyard_trainer_worker.training.verify ARCHIVE`: does a packed model still predict as it did?

Reads the archive with every hash checked, loads the model in this clean process, predicts the sample and compares.
Prints one line of JSON; exits 0 when all agree, 1 when not, 2 for wrong usage. With `--socket-fd` it is an attempt's
clean process: the libraries are loaded first, then question and answer go over that socket (clean_process.py).

Loading a model runs code: verify only archives whose origin you trust (give `--sha256`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import socket
import sys
from pathlib import Path

from trainyard_trainer_worker.processes import die_with_parent


def main(arguments: list[str] | None = None) -> int:
    """Parse, verify, print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainyard_trainer_worker.training.verify", description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, help="the model.tar.gz")
    parser.add_argument("--sha256", help="the SHA-256 that the archive must have")
    parser.add_argument("--socket-fd", type=int, help="load the libraries, then answer over this socket")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    parser.add_argument("--preload", default="", help="modules to import first, separated by commas")
    args = parser.parse_args(arguments)
    if args.parent_pid is not None:
        die_with_parent(args.parent_pid)  # first: the imports below take seconds
    from trainyard_trainer_worker.training import clean_process
    from trainyard_trainer_worker.training.verification import verify

    for module in filter(None, args.preload.split(",")):
        importlib.import_module(module)
    if args.socket_fd is not None:
        return clean_process.answer(socket.socket(fileno=args.socket_fd))
    if args.archive is None:
        parser.error("name the archive, or use --socket-fd")
    verdict = verify(args.archive, args.sha256)
    sys.stdout.write(json.dumps(verdict) + "\n")
    return 0 if verdict["ok"] else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # taking the libraries down in order costs 0.3 s
