"""What the service and its clients share: parameters as they are checked, answers as objects and as bytes. Knows no web framework."""
