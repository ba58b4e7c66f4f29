"""The loop from a topic to a table, exactly once."""
