"""The contract between all other packages: events, schemas, topic names, settings.

Pure: no socket, no file but configuration, no clock. Everything else may import this package; it imports none of them.
"""
