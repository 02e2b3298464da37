"""One reader a data set: fetches its log, lands it by day, and reads what landed."""
