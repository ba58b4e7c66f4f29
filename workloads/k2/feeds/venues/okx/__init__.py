"""OKX: every trade and the best quotes of its spot market, filled by trade id."""
