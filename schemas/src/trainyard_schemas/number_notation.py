"""Numbers that a person reads as such and the worker reads as text: `12,34`, `1,234.50`, `$5`, `30 %`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MOST_CHARS = 64
_BLANKS = " \u00a0\u2009\u202f"
_UNITS = "%$€£¥¢₹₽₩₺₴₫₪₱₦฿"
_AROUND = re.compile(
    rf"(?P<sign>[-+\u2212]?)[{_BLANKS}]*[{_UNITS}]?[{_BLANKS}]*(?P<inner>[-+\u2212]?)[{_BLANKS}]*"
    rf"(?P<core>[\d.,].*?)[{_BLANKS}]*[{_UNITS}]?"
)
_COMMA = re.compile(rf"(?:\d{{1,3}}(?:[.'’{_BLANKS}]\d{{3}})+|\d*),\d+(?:[eE][-+]?\d+)?", re.ASCII)
_GROUPS = re.compile(
    rf"\d{{1,3}}([,'’{_BLANKS}])\d{{3}}(?:\1\d{{3}})*(?:\.\d+)?|\d{{1,3}}(?:\.\d{{3}}){{2,}}", re.ASCII
)
_PLAIN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Notation:
    """How numbers are written: in words, two of them as they stand, what to do, and the first as it should stand."""

    words: str
    examples: Sequence[str]
    advice: str
    plain: str


def is_written_number(text: str) -> bool:
    """Whether a text that is no number to the worker looks like one."""
    core = _core(text)
    return any(pattern.fullmatch(core) for pattern in (_COMMA, _GROUPS, _PLAIN))


def notation_of(texts: Sequence[str]) -> Notation:
    """What is odd about texts of which each is a written number; there is at least one."""
    # `1,234` is more than a thousand, unless another number of the column has its comma where only a point can be.
    commas = [text for text in texts if _COMMA.fullmatch(_core(text)) and not _GROUPS.fullmatch(_core(text))]
    if commas:
        whole, _, fraction = _core(commas[0]).rpartition(",")
        plain = f"{_minus(commas[0])}{_digits(whole) or '0'}.{fraction}"
        return Notation("commas", commas[:2], "write them with a point", plain)
    groups = [text for text in texts if _GROUPS.fullmatch(_core(text))]
    shown = groups or texts
    whole, point, fraction = _core(shown[0]).partition(".")
    plain = _digits(whole + fraction) if "." in fraction else f"{_digits(whole)}{point}{fraction}"
    signs = "percent signs" if "%" in shown[0] else "currency signs" if set(shown[0]) & set(_UNITS) else "other signs"
    words = "separators of thousands" if groups else signs
    return Notation(words, shown[:2], "write them without", _minus(shown[0]) + plain)


def _core(text: str) -> str:
    """What is left without a sign, a unit, and the blanks around them."""
    found = _AROUND.fullmatch(text) if len(text) <= _MOST_CHARS else None  # a long text costs its square
    return found["core"] if found and not (found["sign"] and found["inner"]) else ""


def _minus(text: str) -> str:
    found = _AROUND.fullmatch(text)
    return "-" if found and (found["sign"] or found["inner"]) not in ("", "+") else ""


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())
