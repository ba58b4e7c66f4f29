"""The machinery that hears exchanges: connections, what keeps them up, and the way to Kafka. It knows no venue."""
