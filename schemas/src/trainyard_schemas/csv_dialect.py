"""How a CSV file is split, for who reads its label before it is sent and for who trains on it: one rule. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence

DELIMITERS = (",", ";", "\t")
PIPE = "|"
DELIMITER_NAMES: Mapping[str, str] = {",": "commas", ";": "semicolons", "\t": "tabs", PIPE: "pipes"}
MAX_HEADER_CHARS = 1 << 20
"""Of a file's text so much is looked at."""

_JUDGED_LINES = 20
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
# A field in double quotes, where one may begin.
_QUOTED = re.compile(r'(^|[,;\t|\r\n]) *"[^"]*(?:""[^"]*)*(?:"|\Z)')


def header_of(start: str) -> tuple[list[str], str]:
    """The names in the first record of a file that begins so, stripped, and the likely delimiter that splits it into
    the most of them; no names where there is no record."""
    best: tuple[list[str], str] = ([], DELIMITERS[0])
    lines = _LINE.findall(start)
    for delimiter in likely_delimiters(start):
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        try:
            record = next((row for row in rows if row), [])
        except csv.Error:  # a field beyond the parser's limit: not split by this delimiter
            continue
        if len(record) > len(best[0]):
            best = ([name.strip() for name in record], delimiter)
    return best


def likely_delimiters(start: str) -> Sequence[str]:
    """What may split a file that begins so: what stands equally often, outside of quotes, in each of its first lines.

    Where nothing does, any of DELIMITERS may; a pipe only where none of these stands in the header.
    """
    # A quote stays where a quoted field was: the line is not blank.
    lines = [line for line in re.split(r"[\r\n]+", _QUOTED.sub(r'\1"', start)) if line.strip(" ")]
    if len(start) >= MAX_HEADER_CHARS and len(lines) > 1:
        del lines[-1]  # cut off
    lines = lines[:_JUDGED_LINES]
    counts = {sign: {line.count(sign) for line in lines} for sign in (*DELIMITERS, PIPE)}
    even = [sign for sign, found in counts.items() if len(found) == 1 and 0 not in found]
    if likely := [sign for sign in even if sign != PIPE]:
        return likely
    is_piped = PIPE in even and len(lines) > 1 and not any(sign in lines[0] for sign in DELIMITERS)
    return (PIPE,) if is_piped else DELIMITERS
