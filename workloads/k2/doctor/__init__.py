"""What K2 needs outside of itself, examined: Kafka, registry, catalog, store, and what flows between them."""
