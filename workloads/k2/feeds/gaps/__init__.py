"""The account of gaps: which trades of an exchange did not come, since when, why, and what became of them."""
