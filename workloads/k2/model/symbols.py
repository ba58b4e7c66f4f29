"""What an instrument can be called. Apart from the other rules: a command that only asks needs this one, and no columns."""

from __future__ import annotations

import re

SYMBOL_SHAPE = "1 to 64 printable characters"
# Half of a surrogate pair is no character: a command line or JSON may bring one, and nothing behind takes it.
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}")


def is_symbol(text: str) -> bool:
    """Whether an instrument can be called that."""
    return _NAME.fullmatch(text) is not None
