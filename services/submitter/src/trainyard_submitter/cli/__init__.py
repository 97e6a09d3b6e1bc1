"""The `trainyard` command: a thin root that imports only the command that was asked for.

Every package adds its commands in the entry-point group `trainyard.commands`: `name = "package.commands:object"`, where
the object is a typer.Typer app or a click command; `name.part` is the command `trainyard name part`. Exit statuses: 0
done, 1 a run waited for did not complete, 2 usage, 3 invalid input, 4 not allowed, 5 unavailable, 6 conflict or ended,
78 configuration, 130 interrupted, 141 the reader has gone. An exception with an `exit_code` is shown as one sentence
and ends with that status; any other is a defect, and traced.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

from trainyard_submitter.cli import completion

GROUP = "trainyard.commands"
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 5
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
LAUNCHER_COMMANDS = {
    "test": "Run the tests: `./trainyard test [pytest arguments]`.",
    "bench": "Measure one thing beside its bound: `./trainyard bench NAME`.",
    "lock": "Renew requirements/*.txt after a change of a pyproject.toml (maintainers; needs uv).",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _dispatch(given, {point.name: point for point in entry_points(group=GROUP)})
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # whoever read it has gone (`| head`)
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _drop_output()
        where = f" for {error.filename}" if error.filename else ""
        _complain(f"no space is left on the device{where}; free some (`df` tells where) and run it again")
        return EXIT_UNAVAILABLE
    return status


def _drop_output() -> None:
    """What is still buffered for standard output must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(given: list[str], commands: Mapping[str, EntryPoint]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        _print(_help(commands))
        return 0 if given else EXIT_USAGE
    name, rest = given[0], given[1:]
    if name in completion.OPTIONS:
        return completion.run(name, rest, commands)
    if rest and f"{name}.{rest[0]}" in commands:
        name, rest = f"{name}.{rest[0]}", rest[1:]
    if name in ("-V", "--version"):
        _print(f"trainyard {version('trainyard-submitter')}")
        return 0
    if name not in commands:
        _complain(_unknown(name, commands))
        return EXIT_USAGE
    return _run(name, commands[name].load(), rest)


def _run(name: str, loaded: Any, rest: list[str]) -> int:
    """Run a typer app or a click command. Typer brings a click of its own, so errors are told by their shape."""
    try:
        result = as_command(loaded).main(
            args=rest, prog_name=f"trainyard {name.replace('.', ' ')}", standalone_mode=False
        )
    except SystemExit as ending:
        if isinstance(ending.code, str):
            _complain(ending.code)
            return 1
        return ending.code or 0
    except Exception as error:
        if type(error).__name__ == "Abort":  # both clicks turn Ctrl-C into it
            return EXIT_INTERRUPTED
        status = getattr(error, "exit_code", None)
        if not isinstance(status, int):
            raise
        if callable(show := getattr(error, "show", None)):
            show()
        else:
            _complain(str(error))
        return status
    return result if isinstance(result, int) else 0


def as_command(loaded: Any) -> Any:
    """The click command of a typer app, or of itself."""
    if hasattr(loaded, "registered_commands"):
        import typer.main

        return typer.main.get_command(loaded)
    return loaded


def _help(commands: Mapping[str, EntryPoint]) -> str:
    rows = {name.replace(".", " "): _summary(point) for name, point in commands.items()} | LAUNCHER_COMMANDS
    width = max(len(name) for name in rows)
    lines = [f"  {name:<{width}}  {rows[name]}" for name in sorted(rows)]
    return "\n".join(
        [
            "Usage: trainyard COMMAND [ARGUMENTS]...",
            "",
            "Runs of AutoML training, requested by an event, trained by a worker, answered by an event.",
            "",
            "Commands:",
            *lines,
            "",
            "`trainyard --install-completion` completes all this in your shell (--show-completion prints how).",
            "`trainyard COMMAND --help` tells more. Start with `./trainyard demo`.",
        ]
    )


def _summary(point: EntryPoint) -> str:
    """The first sentence of a command's help."""
    try:
        text = str(as_command(point.load()).help or "")
    except ImportError as error:
        return f"(not usable here: {error})"
    return text.strip().split("\n")[0]


def _unknown(name: str, commands: Mapping[str, EntryPoint]) -> str:
    known = sorted([*(name.replace(".", " ") for name in commands), *LAUNCHER_COMMANDS])
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return f"There is no command `{name}`.{hint} Known commands: {', '.join(known)}."


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _complain(sentence: str) -> None:
    sys.stderr.write(f"trainyard: {sentence}\n")
