"""Requests in the holdout: whole, by the day of their first row, with metrics of their own."""

import dataclasses
import datetime

import numpy as np
import pyarrow as pa
import pytest
from support.training.artifacts import random_rows

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.places import place
from features.schema import LABEL, Column, Dtype, Kind
from features.schema.fingerprints import rows_fingerprint
from training.bootstrap import blocks
from training.data.dataset import TABLE, ExampleTable, request_groups, user_groups
from training.evaluation import gate_page
from training.evaluation.comparison import compare
from training.evaluation.findings import GateConfig
from training.evaluation.gate import decide
from training.evaluation.holdout import score_days
from training.metrics import evaluate_requests

REQUEST = Column(name="request_id", dtype=Dtype.STRING, kind=Kind.STORED, doc="The page.")
DAY = datetime.date(2025, 3, 2)
ONE_DAY = datetime.timedelta(days=1)
ROWS, SIZE = 1_200, 10


class Scorer:
    """Scores that are higher for positives, by more or less chance."""

    def __init__(self, noise: float) -> None:
        self.noise, self.random = noise, np.random.default_rng(5)

    def score(self, inputs):
        return self.random.random(len(inputs.dense)).astype(np.float32)


def examples(schema, first: int) -> pa.Table:
    """Ten rows a request, whose ids count from a number; three users have them in turn."""
    rows = random_rows(schema, ROWS, seed=first)
    number = np.arange(ROWS) // SIZE
    values = {"request_id": [f"r{n}" for n in number + first], LABEL: np.arange(ROWS) % SIZE == 3}
    if schema.user:
        values[schema.user.name] = number % 3
    for name, column in values.items():
        array = pa.array(np.asarray(column, dtype=np.int64) if name != "request_id" else column)
        rows = rows.set_column(rows.column_names.index(name), name, array)
    return rows


@pytest.fixture(params=["synthetic", "open-bandit"])
def table(request, tmp_path) -> ExampleTable:
    """Two days; the second begins with the last two requests of the first."""
    schema = dataclasses.replace(schema_of(request.param), request=REQUEST)
    for day, first in ((DAY - ONE_DAY, 0), (DAY, ROWS // SIZE - 2)):
        folder = place(tmp_path) / schema.name / TABLE
        replace_day(folder, day, [examples(schema, first)], fingerprint=rows_fingerprint(schema))
    return ExampleTable(place(tmp_path), schema)


def test_a_request_belongs_to_the_day_of_its_first_row(table):
    scored = score_days(table.schema, table, [DAY], {"candidate": Scorer(0)})
    assert (scored.num_begun_before, len(scored.holdout)) == (2 * SIZE, ROWS - 2 * SIZE)
    assert len(scored.scores["candidate"]) == len(scored.holdout)
    assert set(np.bincount(scored.holdout.request)) == {SIZE}
    both = score_days(table.schema, table, [DAY - ONE_DAY, DAY], {"candidate": Scorer(0)})
    assert (both.num_begun_before, len(both.holdout)) == (0, 2 * ROWS)
    assert both.holdout.request.max() + 1 == 2 * ROWS // SIZE - 2


def test_whoever_is_drawn_is_drawn_with_all_rows_of_its_requests(table):
    """Users, where they have an id, else requests: no request is in two clusters."""
    holdout = score_days(table.schema, table, [DAY], {"candidate": Scorer(0)}).holdout
    pairs = {(int(r), int(g)) for r, g in zip(holdout.request, holdout.group, strict=True)}
    assert len(pairs) == holdout.request.max() + 1
    clusters = 3 if table.schema.user else holdout.request.max() + 1
    assert (holdout.num_users(), holdout.has_users) == (clusters, table.schema.user is not None)
    drawn = [np.unique(holdout.request[rows]) for rows, _ in blocks(holdout.group)]
    assert sum(map(len, drawn)) == holdout.request.max() + 1
    read = table.read([DAY])
    assert len(np.unique(request_groups(read, table.schema))) == ROWS // SIZE
    assert len(np.unique(user_groups(read, table.schema))) == (
        3 if table.schema.user else ROWS // SIZE
    )


def test_rows_of_a_request_that_are_not_drawn_together_would_make_intervals_too_narrow(table):
    """Requests with an effect of their own: clusters of them know less than as many rows."""
    holdout = score_days(table.schema, table, [DAY], {"candidate": Scorer(0)}).holdout
    random = np.random.default_rng(1)
    effect = random.normal(0, 0.2, holdout.request.max() + 1)[holdout.request]
    base = np.full(len(holdout), 0.1, np.float32)
    other = np.clip(base + effect * (holdout.label - 0.5), 0.01, 0.99).astype(np.float32)
    by_row = dataclasses.replace(holdout, group=np.arange(len(holdout)))
    by_request = dataclasses.replace(holdout, group=holdout.request)
    narrow, wide = (compare(one, other, base).log_loss for one in (by_row, by_request))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_the_gate_reports_how_requests_are_ranked(table):
    scored = score_days(table.schema, table, [DAY], {"candidate": Scorer(0)})
    scores = scored.scores["candidate"]
    decision = decide(GateConfig(min_users=1), scored.holdout, scores, {}, base_rate=0.1)
    expected = evaluate_requests(scores, scored.holdout.label, scored.holdout.request)
    assert decision.candidate.by_request == expected
    found = decision.candidate.to_dict()
    assert (found["requests"], found["request_mrr"]) == (ROWS // SIZE - 2, expected.mrr)
    assert decision.baselines["base_rate"].by_request.gauc == 0.5
    values = {"metrics": found, "champion_metrics": None, "anchor": None, "control": None}
    _, shown = gate_page._of_requests(values)
    ((name, requests, *_),) = shown.rows
    assert (name, requests) == ("candidate", found["requests"])
    plain = {key: value for key, value in found.items() if "request" not in key}
    assert gate_page._of_requests({**values, "metrics": plain}) == []
