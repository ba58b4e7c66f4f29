"""Kafka, the registry and the catalog of one data directory: fetched, started, looked after. Knows nothing of pods."""
