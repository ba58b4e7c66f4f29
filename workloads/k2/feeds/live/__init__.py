"""Live markets: connections, subscriptions, gaps and their filling, for every venue alike."""
