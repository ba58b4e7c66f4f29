"""What a person writes: the two kinds with their fields, checks, labels and CRDs, one document at a time.

What several resources say together is `plan`'s. Pure; knows `k2.model` and no other room.
"""
