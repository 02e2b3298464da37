"""Runs over sizes and learning rates, kept in a journal."""
