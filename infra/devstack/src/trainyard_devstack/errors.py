"""What can go wrong with the stack on a laptop, as sentences for the person in front of it.

DevstackError            exit_code 5: something that is needed is not there, or did not become ready
  ConfigurationError     exit_code 78: a setting, a file of ours or the machine's set-up has to be changed first
"""

from __future__ import annotations

from typing import ClassVar


class DevstackError(Exception):
    """Something the stack needs is unavailable. The message is one sentence that says what to do."""

    exit_code: ClassVar[int] = 5


class ConfigurationError(DevstackError):
    """Trying again will not help: a setting, a kept file or an installed program has to be changed."""

    exit_code: ClassVar[int] = 78
