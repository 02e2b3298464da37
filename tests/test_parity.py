"""Offline and online inputs are equal to the bit, on the real log, at moments between the builds.

Days of MovieLens are replayed: impressions land in parts of days, a push follows them, and an hour
and a quarter after midnight the day before is built and brought online. Requests go through the
reader, the items in memory and the assembly of the endpoint; the offline side is the as-of join of
the training examples.
"""

import dataclasses
import datetime
import itertools
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.parity import (
    DAYS,
    FIRST,
    KINDS,
    LAST,
    MINUTE,
    SCHEMA,
    Online,
    Replay,
    chosen,
    differences,
    inputs_of_all,
    midnight,
    period,
)

from features.encoding.encode import encode
from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, Lake, day_range
from features.schema import SOURCE

pytestmark = pytest.mark.spark

AT_LEAST = 1_000
"""Impressions that are compared."""


@pytest.fixture(scope="module")
def work(spark, tmp_path_factory):
    """The last weeks of MovieLens, from the log to examples."""
    from features.datasets.readers import reader_of
    from features.online_store import feast_store
    from features.pipeline import jobs
    from features.pipeline.ingestion.ingest import ingest
    from features.pipeline.workspace import Workspace

    root = tmp_path_factory.mktemp("parity")
    try:
        reader_of(SCHEMA).fetch(root / "log" / SCHEMA.name)
    except ConnectionError as error:
        pytest.skip(str(error))
    days = day_range(FIRST, LAST)
    work = Workspace(spark, SCHEMA, Lake(root / "lake", SCHEMA.name))
    ingest(work, root / "log", days)
    raw = work.impressions(days, IMPRESSIONS_RAW).drop(*SOURCE)
    work.replace(raw, IMPRESSIONS, days, keys=["example_id"])
    staged = jobs.build(work, root / "log", days, is_first=True)
    jobs.publish_features(work, staged, days)
    jobs.examples(work, days)
    feast_store.apply(SCHEMA, root / "feast", root / "lake")
    return work


@pytest.fixture(scope="module")
def examples(work) -> pa.Table:
    days = day_range(DAYS[0], LAST)
    files = [path for day in days for path in work.lake.snapshot("examples").files(day)]
    table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in files])
    return table.combine_chunks().sort_by([("timestamp", "ascending"), ("example_id", "ascending")])


@dataclasses.dataclass
class Moment:
    """A moment of the replay, and a copy of the store as it was then."""

    kind: str
    at: datetime.datetime
    rows: list[int]
    online: Online
    store: Path


@pytest.fixture(scope="module")
def moments(work, examples, tmp_path_factory) -> list[Moment]:
    """Twenty moments, with the endpoint over a copy of the store as it was then."""
    replay = Replay(work)
    log = [examples.column(name).to_pylist() for name in ("timestamp", "user_id")]
    found = []
    for day, (kind, minutes) in itertools.product(DAYS, KINDS.items()):
        times = [midnight(day) + minute * MINUTE for minute in minutes]
        at = max(times, key=lambda time: len(chosen(*log, time)))
        replay.advance(at)
        copy = tmp_path_factory.mktemp("store") / "feast"
        shutil.copytree(replay.root / "feast", copy)
        found.append(Moment(kind, at, chosen(*log, at), Online(copy), copy))
    return found


def test_impressions_at_moments_between_the_builds_are_equal_to_the_bit(examples, moments):
    seen, found = Counter(), []
    times = examples.column("timestamp")
    for moment in moments:
        candidates = moment.online.candidates(examples, moment.rows)
        found += differences(examples, moment.rows, candidates)
        seen += Counter(period(times[row].as_py()) for row in moment.rows)
    assert found == []
    assert sum(seen.values()) >= AT_LEAST
    assert set(seen) == {"before the build", "before it counts", "after"}
    assert min(seen.values()) > 15


def of_kind(moments, kind: str) -> Moment:
    """The last moment of a kind with many impressions."""
    return next(one for one in reversed(moments) if one.kind == kind and len(one.rows) > 20)


def before(moments, moment: Moment) -> Moment:
    return moments[moments.index(moment) - 1]


def test_a_store_that_is_one_build_behind_is_found(examples, moments):
    """In the morning, over the store as it was before the night's build."""
    morning = of_kind(moments, "morning")
    behind = next(
        one for one in reversed(moments[: moments.index(morning)]) if one.kind == "before the build"
    )
    found = differences(examples, morning.rows, behind.online.candidates(examples, morning.rows))
    late = [text for text in found if "late build" in text]
    assert late
    assert all("item_" in text and "offline" in text and "online" in text for text in late)
    day = morning.at.date()
    assert (
        f"online has the row of {day - ONE_DAY} 00:00:00+00:00, training that of {day}" in late[0]
    )


def test_users_of_which_nothing_was_pushed_are_found(examples, moments):
    evening = of_kind(moments, "evening")
    behind = before(moments, evening)
    found = differences(examples, evening.rows, behind.online.candidates(examples, evening.rows))
    causes = {text.split(": ")[2].split(";")[0] for text in found}
    assert causes & {"late push", "never stored"}


def test_rows_that_are_used_before_they_count_are_found(examples, moments, tmp_path):
    """As a store without ``created`` would let them."""
    night = of_kind(moments, "before it counts")
    shutil.copytree(night.store, tmp_path / "feast")
    with sqlite3.connect(tmp_path / "feast" / SCHEMA.name / "online.db") as connection:
        connection.execute('DROP TRIGGER "ranking_item_daily_newest"')
        connection.execute("UPDATE ranking_item_daily SET created_ts = event_ts")
    found = differences(
        examples, night.rows, Online(tmp_path / "feast").candidates(examples, night.rows)
    )
    assert found
    assert all("visible too early" in text for text in found)


def test_a_wrong_value_is_found(examples, moments, tmp_path):
    """Put into every film, past Feast."""
    from feast.protos.feast.types.Value_pb2 import Value

    evening = of_kind(moments, "evening")
    shutil.copytree(evening.store, tmp_path / "feast")
    value = Value(int64_val=1234).SerializeToString()
    with sqlite3.connect(tmp_path / "feast" / SCHEMA.name / "online.db") as connection:
        connection.execute(
            "UPDATE ranking_item_attributes SET value = ? WHERE feature_name = ?",
            (value, "item_release_year"),
        )
    found = differences(
        examples, evening.rows, Online(tmp_path / "feast").candidates(examples, evening.rows)
    )
    assert found
    assert all(
        "item_release_year: offline 19" in text and "online 1234.0" in text for text in found
    )
    assert all("another value in the row of 1997-01-01" in text for text in found)


def replayed(work, moment: Moment, candidates: list):
    """What the comparison of the prediction log says of answers that the endpoint gave."""
    from features.parity.comparison import compare
    from features.parity.logged import Sample
    from features.prediction_log.columns import arrow_schema
    from serving.observability.answered import Answered, RowMaker
    from serving.observability.sampling import Inclusion

    maker = RowMaker(SCHEMA, columns=arrow_schema(SCHEMA), hashed=None)
    rows = [
        maker.rows(
            Answered(
                answer_id=f"answer-{number}",
                request_id="",
                answered_at=moment.at,
                model_version="v",
                scores=np.zeros(1, np.float32),
                candidates=one,
                inclusion=Inclusion("sampled", 1.0),
            )
        )
        for number, one in enumerate(candidates)
    ]
    logged = pa.concat_tables(rows).combine_chunks()
    lake = Lake(work.lake.root.parent, SCHEMA.name)
    return compare(SCHEMA, lake, Sample(logged, np.ones(len(logged)), len(logged), 1.0), None)


def test_the_replay_for_the_prediction_log_finds_no_mismatch(work, examples, moments):
    """The join without Spark gives what the training join gave, for all that was served."""
    compared = 0
    for moment in moments:
        if moment.rows:
            candidates = moment.online.candidates(examples, moment.rows)
            found = replayed(work, moment, candidates)
            assert (found.mismatched, found.not_judged, found.examples) == (0, {}, [])
            compared += found.compared
    assert compared >= AT_LEAST


def test_the_replay_for_the_prediction_log_names_a_late_build(work, examples, moments):
    morning = of_kind(moments, "morning")
    behind = next(
        one for one in reversed(moments[: moments.index(morning)]) if one.kind == "before the build"
    )
    found = replayed(work, morning, behind.online.candidates(examples, morning.rows))
    assert {cause.value for cause, weight in found.by_cause.items() if weight} == {"late_push"}
    assert {one.table for one in found.tallies if one.rows} >= {"item_daily"}


def test_scores_are_equal_too(examples, moments):
    from training.artifact.scorer import Scorer
    from training.model.inputs import inputs_of
    from training.model.ranker import Ranker as Model
    from training.recipes import recipe_of

    evening = of_kind(moments, "evening")
    scorer = Scorer.of(Model(inputs_of(SCHEMA), recipe_of("wukong-tiny").model))
    taken = examples.take(evening.rows)
    offline = encode(SCHEMA, {name: taken.column(name) for name in taken.column_names})
    served = inputs_of_all(evening.online.candidates(examples, evening.rows))
    np.testing.assert_allclose(scorer.score(served), scorer.score(offline), atol=1e-5)
