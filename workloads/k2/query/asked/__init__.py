"""Questions as values, checked when they are made. Nothing here reads anything."""
