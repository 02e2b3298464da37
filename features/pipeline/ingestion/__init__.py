"""From where the log lands into the lake."""
