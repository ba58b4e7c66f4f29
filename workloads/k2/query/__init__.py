"""Questions and answers: what can be asked of a lake, put together in `opening.py`. The rooms know each other one way only."""
