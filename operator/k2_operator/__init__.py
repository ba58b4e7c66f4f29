"""K2's control plane: what should exist, and making it so."""
