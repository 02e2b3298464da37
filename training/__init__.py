"""The ranker: its model, its sharded training, its evaluation and its registry."""
