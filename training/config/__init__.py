"""Configurations: what a ranker is made of, and how it is trained."""
