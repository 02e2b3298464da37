"""MovieLens-100k: 100,000 ratings of films, 1997 and 1998."""
