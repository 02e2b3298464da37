"""A generated log whose true click probabilities are known."""
