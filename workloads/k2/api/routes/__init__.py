"""The routes of /v1, one module a kind of question. They translate; the answers come from `k2.query`."""
