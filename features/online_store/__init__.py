"""The online store: what Feast writes, and how the endpoint reads it."""
