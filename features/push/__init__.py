"""Users brought online within the day, as their impressions land."""
