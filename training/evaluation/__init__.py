"""The gate: holdout, comparison, decision, and the pages that show them."""
