"""The Kubernetes API: the one client, the watches (the only users of kopf beside `__main__`), and what they have seen.

What should be there is not known here; `reconcile` compares and decides.
"""
