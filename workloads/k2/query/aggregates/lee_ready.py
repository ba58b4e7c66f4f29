"""Which side began a trade, told from the quote that prevailed and from the prices before it. Pure.

The rule of C. M. C. Lee and M. J. Ready, "Inferring Trade Direction from Intraday Data", The Journal of Finance 46(2), 1991,
pages 733 to 746: a trade above the middle of bid and ask was bought, one below it sold (quote rule); one at the middle was
bought where the last other price was lower, sold where it was higher (tick test). Their delay of five seconds, made for the
reporting of that time, is not applied: the quote is the last one strictly before the trade.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from k2.query.aggregates.digits import Ints, Wide

BUY, SELL, UNKNOWN = "BUY", "SELL", "UNKNOWN"


def tick_signs(price: Ints | Wide, group: Ints, earlier: Ints | None = None) -> Ints:
    """1 after a lower last other price, -1 after a higher one, 0 where there was none.

    Args:
        price: of trades by group and, within one, in the total order.
        group: what is compared with each other: a symbol on a trading date.
        earlier: for each trade the sign where its group has had no other price before it.
    """
    step = np.sign(np.diff(price, prepend=price[:1])).astype(np.int64, copy=False)
    first = np.concatenate(([True], group[1:] != group[:-1])) if len(group) else np.zeros(0, np.bool_)
    step[first] = 0
    at = np.arange(len(price))
    changed = np.maximum.accumulate(np.where(step != 0, at, -1))
    begin = np.maximum.accumulate(np.where(first, at, 0))
    return np.where(changed >= begin, step[changed], 0 if earlier is None else earlier)


def sides(
    price: Ints | Wide, bid: Ints | Wide, ask: Ints | Wide, usable: NDArray[np.bool_], tick: Ints
) -> NDArray[Any]:
    """BUY, SELL or UNKNOWN for each trade.

    Args:
        price: of trades, in the same unit as bid and ask.
        bid: of the quotes that prevailed.
        ask: of the same.
        usable: whether there is such a quote, with two sides, that is not crossed.
        tick: see `tick_signs`.
    """
    above = np.sign(2 * price - (bid + ask)).astype(np.int64, copy=False)
    sign = np.where(usable, np.where(above != 0, above, tick), 0)
    return np.array([SELL, UNKNOWN, BUY])[sign + 1]
