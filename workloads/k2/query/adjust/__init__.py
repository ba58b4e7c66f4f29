"""Answers adjusted for splits, mergers and dividends: from reference data and closes to factors by symbol and time."""
