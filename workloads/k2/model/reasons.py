"""What a dead letter's reason is about, without the values that it quotes: its class for labels, its kind for a person. Pure.

A reason is made where the fault is found and says what was found there. Whoever counts reasons, or tells of them where others
may read it (a metric, a status), may use neither the text nor the values.
"""

from __future__ import annotations

import re

from k2.model.amounts import HELD_BY_WIDE
from k2.model.feed_rules import TAKES_ANY

_CLASSES = (
    ("tombstone", "tombstone"),
    ("another event's", "conflict"),
    (TAKES_ANY, "price"),
    ("Confluent", "framing"),
    ("not known to the registry", "unknown_schema"),
    ("schema id", "schema"),
    ("truncated", "truncated"),
    ("trailing", "trailing"),
    ("digits", "decimal"),
    ("decimals", "decimal"),
    ("uuid", "value"),
    ("UTF-8", "value"),
    (", expected ", "value"),
    (", which is no ", "value"),
    ("is missing", "value"),
    ("only one is there", "value"),
    ("cannot hold", "value"),
)
"""A word of a reason, and the class of those that have it; the first one counts."""

REASON_CLASSES = (*dict.fromkeys(name for _, name in _CLASSES), "other")
"""All that `reason_class` can answer."""

# The first that fits counts. Lazy where a value follows, greedy where what follows the value is to be kept.
_KINDS = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (r".* is another event's already: .*", "its id is another event's already"),
        (r"\S+ cannot hold (\w+).*", r"the table cannot hold \1"),
        (r"(not Confluent framing|not readable): .*", r"\1"),
        (r"\d+ (bytes are no Confluent header|trailing bytes)", r"\1"),
        (r"schema id \d+ (is not known to the registry)", r"schema id \1"),
        (r"schema id \d+: (its schema is no Avro schema): .*", r"\1"),
        (r"schema id \d+: (.*)", r"\1"),
        (rf"(\w+ has more than \d+ (?:decimals|integer digits)): .*?({re.escape(HELD_BY_WIDE)}|)", r"\1\2"),
        (r"(\w+) is .*(, (?:expected|which is no) .*)", r"\1 is …\2"),
    )
)
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\w.]*")
_LONGEST_KIND = 160


def reason_class(reason: str) -> str:
    """One of a short fixed list, for a metric's label."""
    return next((name for word, name in _CLASSES if word in reason), "other")


def reason_kind(reason: str) -> str:
    """The reason without its values, for a person: `price has more than 8 decimals`.

    What no rule here knows loses its numbers and whatever stands in quotes. At most 160 characters.
    """
    for pattern, kind in _KINDS:
        if found := pattern.fullmatch(reason):
            return _short(found.expand(kind))
    return _short(_VALUES.sub("…", reason))


def _short(kind: str) -> str:
    return kind if len(kind) <= _LONGEST_KIND else kind[: _LONGEST_KIND - 1] + "…"
