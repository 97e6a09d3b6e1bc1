"""Shell completion: `trainyard --show-completion [SHELL]`, `--install-completion [SHELL]`.

The shell asks `trainyard --complete WORD...` (what stands before the cursor, the last one perhaps in part) and gets one
candidate a line: commands, their subcommands and options. No candidates: the shell completes file names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

SHOW, INSTALL, COMPLETE = "--show-completion", "--install-completion", "--complete"
OPTIONS: Final = (SHOW, INSTALL, COMPLETE)
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78

SCRIPTS: Mapping[str, str] = {
    "bash": """\
_trainyard() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _trainyard trainyard ./trainyard
""",
    "zsh": """\
#compdef trainyard ./trainyard
_trainyard() {
    local -a found
    found=("${(@f)$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -- "${found[@]}"; else _files; fi
}
compdef _trainyard trainyard ./trainyard
""",
    "fish": """\
function __trainyard_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] --complete $words[2..-1] 2>/dev/null
end
complete -c trainyard -a '(__trainyard_complete)'
""",
}


def run(option: str, rest: Sequence[str], commands: Mapping[str, EntryPoint]) -> int:
    """Do what one of `OPTIONS` asks for; returns the exit status."""
    if option == COMPLETE:
        sys.stdout.write("".join(f"{candidate}\n" for candidate in candidates(rest, commands)))
        return 0
    shell = rest[0] if rest else Path(os.environ.get("SHELL", "")).name
    if shell not in SCRIPTS:
        sys.stderr.write(f"trainyard: name your shell: `trainyard {option} {'|'.join(SCRIPTS)}`\n")
        return EXIT_USAGE
    if option == SHOW:
        sys.stdout.write(SCRIPTS[shell])
        return 0
    return _install(shell, Path.home())


def candidates(words: Sequence[str], commands: Mapping[str, EntryPoint]) -> list[str]:
    """What the last of `words` can become. Imports only the command that the first one names."""
    begun, before = (words[-1], words[:-1]) if words else ("", ())
    if not before:
        return sorted(name for name in {name.partition(".")[0] for name in commands} if name.startswith(begun))
    name, rest = before[0], list(before[1:])
    parts = [full.partition(".")[2] for full in commands if full.startswith(f"{name}.")]
    if rest and f"{name}.{rest[0]}" in commands:
        name, rest, parts = f"{name}.{rest[0]}", rest[1:], []
    if name not in commands:
        return []
    from trainyard_submitter.cli import as_command

    command: Any = as_command(commands[name].load())
    for word in rest:
        command = getattr(command, "commands", {}).get(word, command)
    if begun.startswith("-"):
        found = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        found.append("--help")
    else:
        found = [*getattr(command, "commands", {}), *([] if rest else parts)]
    return sorted(word for word in found if word.startswith(begun))


def _install(shell: str, home: Path) -> int:
    """Write the script where the shell looks for it, and, but for fish, one line into its start file, once."""
    try:
        if shell == "fish":
            target = home / ".config" / "fish" / "completions" / "trainyard.fish"
        else:
            target = home / ".local" / "share" / "trainyard" / f"completion.{shell}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(SCRIPTS[shell], encoding="utf-8")
        if shell != "fish":
            start = home / f".{shell}rc"
            line = f'. "{target}"  # completion of trainyard'
            text = start.read_text(encoding="utf-8") if start.exists() else ""
            if line not in text.splitlines():
                with start.open("a", encoding="utf-8") as file:
                    file.write(("" if text.endswith("\n") or not text else "\n") + line + "\n")
    except OSError as error:
        sys.stderr.write(f"trainyard: {error.filename} cannot be written: {error.strerror}\n")
        return EXIT_CONFIGURATION
    sys.stderr.write(f"trainyard: completion is in {target}; open a new shell to have it\n")
    return 0
