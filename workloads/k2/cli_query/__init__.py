"""`k2 query …` and `k2-query …`: questions on the command line. Data goes to stdout, everything else to stderr.

`options` is what a person types, `printing` and `candles` what they see; the commands stand between them and `k2.client`.
A command's start is a large part of what a person waits for: whatever is heavy is loaded where it is used.
"""

from k2.cli_query.commands import app, main, register

__all__ = ["app", "main", "register"]
