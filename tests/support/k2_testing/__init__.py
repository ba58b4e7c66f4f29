"""What several tests need: events made of numbers, and a log that stands for a topic where time must be controlled."""
