"""A guided start: a schema file drafted from a log, and what would go wrong with landed days."""
