"""What would go wrong with the landed days of a data set, before anything is built of them."""
