"""The path of a feature: from the raw log to the Feast stores and the training examples."""
