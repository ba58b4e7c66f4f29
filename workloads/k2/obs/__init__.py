"""Logs and metrics of every workload."""
