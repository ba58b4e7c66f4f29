"""Making it so: the loops and steps that observe, apply, measure and delete, against Kubernetes, Kafka, registry and catalog.

Everything that waits or has a side effect is here; what is decided without either is in the other rooms.
"""
