"""Times as strftime writes them: the directives of a form, and the pattern that finds their values in a text. Pure.

`%f` takes one to nine digits here, with or without its point: vendors write nanoseconds, and leave out a fraction of zero.
"""

from __future__ import annotations

import re

from k2.model.errors import UserError

PATTERNS = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "m": "[0-9]{1,2}",
    "b": "[A-Za-z]{3}",
    "d": "[0-9]{1,2}",
    "H": "[0-9]{1,2}",
    "I": "[0-9]{1,2}",
    "p": "[AaPp][Mm]",
    "M": "[0-9]{1,2}",
    "S": "[0-9]{1,2}",
    "f": "[0-9]{1,9}",
    "z": "Z|z|[+-][0-9]{2}:?[0-9]{2}",
}
_NAMES = {"f": "fraction", "z": "offset"}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DIRECTIVE = re.compile(r"%(.)", re.DOTALL)


def directives(form: str) -> str:
    """The letters of a form's directives, in order.

    Raises:
        UserError: one of them is not known here, or stands twice.
    """
    found = [letter for letter in _DIRECTIVE.findall(form) if letter != "%"]
    unknown = [letter for letter in found if letter not in PATTERNS]
    if unknown or (form.endswith("%") and not form.endswith("%%")):
        raise UserError(
            "A form of times has a directive that K2 does not read",
            found=f"%{unknown[0]}" if unknown else form,
            expected=", ".join(f"%{letter}" for letter in PATTERNS),
        )
    if ("I" in found) != ("p" in found):
        raise UserError(
            "A form of times has hours of half a day without its half", found=form, expected="%I and %p together"
        )
    if len(set(found)) < len(found):
        raise UserError("A form of times has a directive twice", found=form)
    return "".join(found)


def pattern(form: str) -> str:
    """A regular expression with a group for each directive, named by its letter (`fraction` and `offset` for %f and %z).

    Digits that touch must be of full length, or nobody could tell one from the next.
    """
    directives(form)
    written, position = ["^"], 0
    for match in _DIRECTIVE.finditer(form):
        literal, letter = form[position : match.start()], match[1]
        position = match.end()
        if letter == "%":
            written.append(re.escape(literal) + "%")
            continue
        if letter == "f" and literal.endswith("."):
            written.append(re.escape(literal[:-1]) + rf"(?:\.(?P<fraction>{PATTERNS['f']}))?")
            continue
        found = PATTERNS[letter]
        if form[position : position + 1] == "%" or (not literal and match.start()):
            found = found.replace("{1,2}", "{2}")
        written.append(re.escape(literal) + f"(?P<{_NAMES.get(letter, letter)}>{found})")
    return "".join([*written, re.escape(form[position:]), "$"])
