"""Metrics, traces, and the log of predictions."""
