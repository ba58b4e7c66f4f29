"""Binance's spot market: trades and best bids and asks."""
