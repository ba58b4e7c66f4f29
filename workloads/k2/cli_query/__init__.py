"""`k2 query …` and `k2-query …`: questions on the command line. Data goes to stdout, everything else to stderr.

`options` is what a person types, `printing` and `chart` what they see; the commands stand between them and `k2.client`.
"""

from k2.cli_query.app import app, main, register

__all__ = ["app", "main", "register"]
