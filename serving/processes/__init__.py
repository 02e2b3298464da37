"""The endpoint's processes: one that serves, or a supervisor with several workers."""
