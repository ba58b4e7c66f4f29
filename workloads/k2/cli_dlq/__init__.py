"""`k2 dlq …`: dead letters as a person meets them: counted, looked at, sent again, cleared away. docs/dead-letters.md.

`options` is what a person types, `printing` what they see; the commands stand between them and `k2.bus`.
"""

from k2.cli_dlq.commands import register

__all__ = ["register"]
