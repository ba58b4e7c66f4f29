"""From a question to what must be read: snapshot, files, exchange; and what metadata alone answers."""
