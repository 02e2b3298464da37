"""What each day of a table was made of, which days are stale since, and what may replace them."""
