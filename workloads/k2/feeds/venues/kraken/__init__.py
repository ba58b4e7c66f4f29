"""Kraken: trades and best quotes of the WebSocket interface v2, filled from the REST interface's trades."""
