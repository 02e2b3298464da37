"""Versions, aliases and family of the models, in MLflow."""
