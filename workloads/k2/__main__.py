"""`python -m k2` is the command `k2`: the local executor starts workloads this way."""

from k2.cli import main

if __name__ == "__main__":
    main()
