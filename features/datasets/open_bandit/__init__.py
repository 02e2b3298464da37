"""Open Bandit: impressions of a fashion shop, with clicks."""
