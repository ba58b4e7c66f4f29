"""A seeded market of our own making."""
