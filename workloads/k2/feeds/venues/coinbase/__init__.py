"""Coinbase: trades and best quotes of the Advanced Trade stream, filled from the Exchange's REST interface."""
