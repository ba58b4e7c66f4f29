"""From a source into its topics: loads that end, with their ledger, and producers that do not."""
