"""`python -m k2_testing.more_exchanges`: the operator as it is, in a world with twice as many exchanges.

A topic's name has its exchange in it, so the exchanges that K2 knows make 150 topics and no more.
"""

from __future__ import annotations

import sys

from k2.model.exchanges import EXCHANGES, Exchange
from k2.model.topics import AssetClass
from k2_operator.__main__ import main

MORE = tuple(Exchange(f"VENUE{n}", f"Venue {n}", "UTC", "USD", AssetClass.EQUITIES, None) for n in range(10))
CODES = (*EXCHANGES, *(each.code for each in MORE))
PROGRAM = ("-m", "k2_testing.more_exchanges")

if __name__ == "__main__":
    EXCHANGES.update({each.code: each for each in MORE})
    sys.exit(main())
