"""A sample of a log: its rows, what its columns hold, and what their names suggest."""
