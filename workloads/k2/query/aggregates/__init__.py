"""Answers that are made of ticks: bars, summaries, trades with their quotes. Columns in, columns out, exact."""
