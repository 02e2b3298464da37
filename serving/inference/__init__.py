"""Versions that are loaded, and the request that one of them scores."""
