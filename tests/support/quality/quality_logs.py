"""A log of predictions and the impressions that came of it, with planted probabilities; no Spark.

Scores of answers are drawn, labels with the probabilities that the scores say, or with others.
"""

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from support.training.artifacts import random_rows

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.places import place
from features.prediction_log.columns import arrow_schema
from features.prediction_log.hashed_ids import IdHash
from features.prediction_log.table import LogTable
from features.schema import LABEL, Column, Dtype, Kind, Schema
from features.schema.fingerprints import rows_fingerprint
from training.data.dataset import TABLE
from training.monitoring.quality.scored_rows import ScoredRows
from training.monitoring.quality_request import QualityRequest

BY_USER = schema_of("synthetic")
BY_REQUEST = dataclasses.replace(
    BY_USER,
    request=Column(name="page_id", dtype=Dtype.STRING, kind=Kind.STORED, doc="The page."),
)
BY_ANSWER = dataclasses.replace(
    BY_USER,
    request=Column(name="answer_id", dtype=Dtype.STRING, kind=Kind.STORED, doc="The answer."),
)
DAY = datetime.date(2025, 3, 5)
ITEMS = 10
"""Of each answer."""
ORDINARY = {"model_version": "v1", "role": "champion", "inclusion_probability": 1.0}


def scored(
    answers: int, *, seed: int = 0, weight: np.ndarray | float = 1.0, low: float = 0.02
) -> tuple[ScoredRows, np.ndarray]:
    """Rows of answers with scores from ``low`` to 0.9, and labels drawn with just these."""
    random = np.random.default_rng(seed)
    rows = answers * ITEMS
    score = random.uniform(low, 0.9, rows).astype(np.float32) ** 2
    label = (random.random(rows) < score).astype(np.int64)
    answer = np.repeat(np.arange(answers), ITEMS)
    made = ScoredRows(
        score=score,
        weight=np.broadcast_to(np.float64(weight), rows).copy(),
        answer=answer,
        user=answer // 3,
        hour=answer % 24,
        slices={"first half": np.arange(rows) < rows // 2},
    )
    return made, label


def logged(
    schema: Schema,
    answers: int,
    *,
    day: datetime.date = DAY,
    first: int = 0,
    hashed: IdHash | None = None,
    seed: int = 0,
    **values: object,
) -> pa.Table:
    """Rows of a log, as the endpoint writes them, an answer every some seconds of the day."""
    rows = answers * ITEMS
    answer = first + np.repeat(np.arange(answers), ITEMS)
    place_of = np.tile(np.arange(ITEMS), answers)
    random = np.random.default_rng(seed)
    seconds = (answer - first) * 86_000 // max(answers, 1)
    noon = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    moments = pa.array(
        [noon + datetime.timedelta(seconds=int(one)) for one in seconds],
        pa.timestamp("us", tz="UTC"),
    )
    users = [str(1 + one % 37) for one in answer]
    requests = [f"page-{one}" for one in answer]
    if hashed:
        users, requests = [*map(hashed.user, users)], [*map(hashed.request, requests)]
    made = {field.name: pa.nulls(rows, field.type) for field in arrow_schema(schema)}
    made |= {
        "answer_id": pa.array([f"answer-{one}" for one in answer]),
        "request_id": pa.array(requests),
        "user_key": pa.array(users),
        "hash_key_id": pa.array([hashed.key_id if hashed else None] * rows, pa.string()),
        "answered_at": moments,
        "timestamp": moments,
        "sent_item_id": pa.array(1 + (answer * ITEMS + place_of) % 500),
        "rank": pa.array(place_of + 1, pa.int32()),
        "score": pa.array((random.uniform(0.1, 0.9, rows) ** 2).astype(np.float32)),
        "degraded_by": pa.array([[]] * rows, pa.list_(pa.string())),
        "day": pa.array([day] * rows),
        "hour": pa.array(seconds // 3600, pa.int32()),
    }
    for name, value in {**ORDINARY, **values}.items():
        column = value if isinstance(value, pa.Array) else pa.array([value] * rows)
        made[name] = column.cast(made[name].type) if name in made else column
    return pa.table(made)


def impressions_of(
    schema: Schema, rows: pa.Table, *, lag_seconds: int = 3, seed: int = 1_009, odds: float = 1.0
) -> pa.Table:
    """Examples: an impression for each row, some seconds after its answer.

    Args:
        schema: Of the data set.
        rows: Of a log whose ids are not hashed.
        lag_seconds: From an answer to its impressions.
        seed: Of the labels.
        odds: How many times the odds of the labels are those of the scores.
    """
    table = random_rows(schema, len(rows))
    score = rows["score"].to_numpy().astype(np.float64)
    truth = odds * score / (1 - score + odds * score)
    label = (np.random.default_rng(seed).random(len(rows)) < truth).astype(np.int64)
    moments = rows["timestamp"].to_numpy() + np.timedelta64(lag_seconds, "s")
    values = {
        "timestamp": pa.array(moments, pa.timestamp("us", tz="UTC")),
        schema.item.name: rows["sent_item_id"].cast(pa.int64()),
        LABEL: pa.array(label),
        "user_id": rows["user_key"].cast(pa.int64()),
        "page_id": rows["request_id"],
        "answer_id": rows["answer_id"],
    }
    for name, column in values.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def write_log(folder: Path, schema: Schema, *rows: pa.Table) -> None:
    """Append rows to the log of a data set."""
    log = LogTable(place(folder), schema)
    log.open()
    for some in rows:
        log.append(some, metadata={})


def write_examples(lake: Path, schema: Schema, day: datetime.date, rows: pa.Table) -> None:
    """A day of examples, whose labels are final."""
    table = place(lake) / schema.name / TABLE
    replace_day(table, day, [rows], fingerprint=rows_fingerprint(schema), row_group_rows=10_000)


def asked(root: Path, day: datetime.date = DAY, **values: object) -> QualityRequest:
    """A request about the folders of a test, with few draws."""
    folders = {name: place(root / name) for name in ("log", "lake", "reports", "artifacts")}
    given = {"dataset": BY_USER.name, "date": day, "draws": 200, **folders, **values}
    return QualityRequest(**given)
