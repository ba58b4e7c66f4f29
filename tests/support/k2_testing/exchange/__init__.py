"""A stand-in exchange: a server on this machine that speaks venues' public protocols, with a market, faults and counters of its own.

No exchange can be reached where tests run, and none would break when asked to. `Exchange` runs it on a thread,
`python -m k2_testing.exchange` as a process. It is made after the venues' documentation and knows nothing of K2.
"""

from k2_testing.exchange.counting import Counts, Rules
from k2_testing.exchange.exchange import Exchange
from k2_testing.exchange.faults import Fault, Planned, Script
from k2_testing.exchange.market import Listing, listings

__all__ = ["Counts", "Exchange", "Fault", "Listing", "Planned", "Rules", "Script", "listings"]
