"""Past days: what is stale and why, and the jobs that make them again."""
