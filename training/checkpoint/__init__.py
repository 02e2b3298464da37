"""Saved training states: their files, their catalog, and their move to another schema or split."""
