"""What is done for a table now and then, beside sinks that commit to it: files written anew, and what nothing refers to deleted."""
