"""The tables of the lake: who commits, what a version holds, how Spark writes and reads it."""
