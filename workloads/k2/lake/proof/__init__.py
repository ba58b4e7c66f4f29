"""Whether a table holds what it says: offsets, files, numbers, and what people decided."""
