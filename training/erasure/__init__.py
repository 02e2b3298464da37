"""A user is erased from what was trained: the row of an embedding table, and rows kept as proof."""
