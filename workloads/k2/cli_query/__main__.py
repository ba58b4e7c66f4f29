"""`python -m k2.cli_query …`: the command, where its script is not on the path."""

from k2.cli_query.commands import main

main()
