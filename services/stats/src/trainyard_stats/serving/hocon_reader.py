"""The text of a `metric_logging` by hocon2: clearml-serving writes HOCON, and people write JSON."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from trainyard_stats.serving.metric_rules import RulesError

_REACHES_OUT: Final = re.compile(r"\$\{|^\s*include\b", re.MULTILINE)
MAX_CHARACTERS: Final = 1_000_000


def read_hocon(text: str) -> Any:
    """The document. Raises RulesError; includes and substitutions, which would read files and variables, are refused.

    What is JSON is read as JSON; HOCON contains it.
    """
    if len(text) > MAX_CHARACTERS:
        raise RulesError(f"metric_logging: has {len(text):,} characters, the limit is {MAX_CHARACTERS:,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if _REACHES_OUT.search(text):
        raise RulesError("metric_logging: holds an include or a substitution; write the values themselves")
    import hocon
    from hocon.exceptions import HOCONError

    try:
        # Its quoted strings are a class of its own: as JSON they are strings again.
        return json.loads(json.dumps(hocon.loads(text), default=str))
    except HOCONError as error:
        where = f" at {error.location}" if error.location else ""
        raise RulesError(f"metric_logging: is neither JSON nor HOCON{where} ({error.message[:100]})") from error
    except Exception as error:  # on an unfinished text it raises whatever its indexing does
        raise RulesError(f"metric_logging: is neither JSON nor HOCON ({type(error).__name__})") from error
