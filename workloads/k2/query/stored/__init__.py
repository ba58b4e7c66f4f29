"""Bars that are stored: made of trades, refreshed where trades changed. docs/bars.md."""
