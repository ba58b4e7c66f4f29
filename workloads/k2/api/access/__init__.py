"""Who may ask, and how much: keys and limits. Knows no request and no web framework."""
