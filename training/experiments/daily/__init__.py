"""What a daily run should do: ways of learning a day, rolled over the last days of a log."""
