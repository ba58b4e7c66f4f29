"""What is said of a resource in its status: conditions and figures from plans, objects and readings.

Pure: readings are taken, and the status is written, by `reconcile`.
"""
