"""Batches of training examples, read from the lake."""
