"""Promotion, canary and roll-back of a version."""
