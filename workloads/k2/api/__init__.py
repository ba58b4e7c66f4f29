"""The REST service: put together in `app.py`, run by `serve.py`."""
