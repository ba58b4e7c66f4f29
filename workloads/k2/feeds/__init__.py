"""Sources of events, and what brings their events into topics. `run.py` puts a feed together."""
