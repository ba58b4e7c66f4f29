"""Where events come from, beside files: a folder each."""
