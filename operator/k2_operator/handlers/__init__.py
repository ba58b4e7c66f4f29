"""What kopf calls: events into the cache and the queue, nothing else. With `__main__` the only users of kopf."""
