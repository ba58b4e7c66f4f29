"""Rows given out in the order of events: by page, as a stream, as a replay."""
