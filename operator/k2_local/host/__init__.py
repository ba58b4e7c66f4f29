"""This machine: child processes that do not outlive us, signals, free ports. Knows nothing of K2 but its errors."""
