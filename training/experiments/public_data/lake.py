"""The pipeline's own data sets as benchmarks: training examples from the lake, split by time."""

import datetime
from pathlib import Path

from features.schema import Schema
from training.data.dataset import ExampleTable, user_groups
from training.evaluation.holdout import best_log_losses
from training.experiments.public_data.data import BenchmarkData, InMemory, Split
from training.model.inputs import inputs_of

SHARES = (0.7, 0.85)
"""Where the training days and the validation days end, as shares of the rows."""


def read_lake(schema: Schema, lake: Path) -> BenchmarkData:
    """All examples of a data set: the first days train, the next validate, the last test.

    Raises:
        ValueError: There are no examples; says which command makes them.
    """
    table = ExampleTable(lake, schema)
    days = [
        day for day in table.days(datetime.date.min, datetime.date.max) if table.num_rows([day])
    ]
    ends: list[int] = []
    total, seen = table.num_rows(days), 0
    for count, day in enumerate(days, start=1):
        seen += table.num_rows([day])
        while len(ends) < len(SHARES) and seen >= SHARES[len(ends)] * total:
            ends.append(count)
    if len(set(ends)) < len(SHARES) or ends[-1] == len(days):
        raise ValueError(f"days of {table.root}: {len(days)} with rows; three parts need more")
    parts = [
        table.read(part) for part in (days[: ends[0]], days[ends[0] : ends[1]], days[ends[1] :])
    ]
    train, valid, test = (
        Split(part.inputs, part.label, user_groups(part, schema)) for part in parts
    )
    best = best_log_losses(schema, parts[-1])
    return BenchmarkData(
        name=schema.name,
        inputs=inputs_of(schema),
        train=InMemory(train),
        valid=valid,
        test=test,
        best_log_loss=None if best is None else float(best.mean()),
    )
