"""A checkpoint grown to a larger model of the same function."""
