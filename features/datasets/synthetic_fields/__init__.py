"""A generated log of categorical fields whose best loss is known."""
