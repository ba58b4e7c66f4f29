"""What a person writes and reads: the two kinds with their fields, checks, labels and CRDs, and the words of a status.

With them what matters of any Kubernetes object. One document at a time; what several resources say together is `plan`'s.
Pure; knows `k2.model` and no other room.
"""
