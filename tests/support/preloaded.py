"""What commands and ranks of a training need, for the server that forks them (forks.py)."""

from features.imports import without_collection

with without_collection():
    import training.cli.commands
    import training.cli.judge
    import training.cli.rank_worker
    import training.cli.torchrun  # noqa: F401
