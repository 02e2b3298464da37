"""Whether a day has landed: as a file, or in a table that others write."""
