"""Reference data as answers: what was known of companies, dividends, splits and mergers at a snapshot."""
