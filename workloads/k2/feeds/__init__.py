"""Sources of events: files, venues, the synthetic market, and the loader that sends them."""
