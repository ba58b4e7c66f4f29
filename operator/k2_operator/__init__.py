"""K2's control plane: what should exist, and making it so. One room a step: spec → plan → build → kube → report → reconcile."""
