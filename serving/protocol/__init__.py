"""Requests, from bytes to checked arrays, and the error for those that do not pass."""
