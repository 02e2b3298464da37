"""Rows in quarantine: shown with their rules, corrected, and re-admitted to their days."""
