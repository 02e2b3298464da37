"""The prediction log: what was answered, from what, and how to read it; ``docs/prediction-log.md``.

The endpoint appends to it. Whoever compares what was served with what should have been reads it.
"""
