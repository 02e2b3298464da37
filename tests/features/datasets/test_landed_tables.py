"""Tables that others write: a day is their rows of the day, from whichever files and versions."""

import datetime
import re

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from features.datasets.readers import Reader
from features.datasets.schema_files.build import read_data_set
from features.datasets.source_problems import problems_of_source
from features.lake.lake import IMPRESSIONS_RAW, Lake
from features.places import place
from features.runbooks import RunbookError

pytestmark = pytest.mark.spark
UTC = datetime.UTC
DAYS = [datetime.date(2025, 3, 1), datetime.date(2025, 3, 2), datetime.date(2025, 3, 3)]
SCHEMA = """\
name: shop
doc: Visits.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
example_id: {from: [user_id, item_id, timestamp]}
user: {name: user_id, type: string, kind: sparse, hash_size: 100, doc: The visitor.}
item: {name: item_id, type: int64, kind: sparse, num_ids: 100, doc: The article.}
context:
  seen: {type: list<int64>, kind: sparse, max_length: 5, shares_table_with: item_id, doc: Seen.}
stored:
  bought: {type: int64, doc: Whether it was bought.}
labels:
  sale: {column: bought, positive_from: 1, delay: 1h}
target: sale
tables:
  - {kind: user_state, history_length: 5, ttl: 30d, delay: 5m}
  - {kind: item_daily, windows_days: [7], ttl: 7d, delay: 2h}
  - kind: item_attributes
    doc: What the shop says.
    columns: {item_price: {type: float64, kind: dense, nullable: true, doc: Price.}}
limits:
  min_positive_rate: 0
  max_positive_rate: 1
  min_share_of_trailing_rows: 0
  max_times_trailing_rows: 5
source: {format: FORMAT, time: {column: at UNIT}, columns: {item_id: Article No} MORE}
"""


def data_set(folder, form, *, unit="", more=""):
    unit, more = (f", unit: {unit}" if unit else ""), (f", {more}" if more else "")
    text = SCHEMA.replace("FORMAT", form).replace(" UNIT", unit).replace(" MORE", more)
    (folder / "shop.yaml").write_text(text)
    return read_data_set(folder / "shop.yaml")


def rows_of(day, count=4, unit="", first=0):
    midnight = datetime.datetime.combine(day, datetime.time(), UTC)
    # The first and the last moment of the day are among them.
    last = datetime.timedelta(days=1, microseconds=-1000) / max(1, count - 1)
    moments = [midnight + n * last for n in range(count)]
    milliseconds = [int(at.timestamp() * 1000) for at in moments]
    ids = range(first, first + count)
    return pa.table(
        {
            "user_id": [f"u{n}" for n in ids],
            "Article No": pa.array([n % 100 for n in ids], pa.int32()),
            "seen": pa.array([[n % 100] for n in ids], pa.list_(pa.int64())),
            "at": milliseconds if unit else pa.array(moments, pa.timestamp("us", tz="UTC")),
            "bought": pa.array([n % 2 for n in ids], pa.int64()),
            "dt": [day.isoformat()] * count,
            "not read": ["x"] * count,
        }
    )


ITEMS = pa.table({"Article No": [1, 2], "item_price": pa.array([1.5, None], pa.float64())})


class Delta:
    """A Delta table, written as its owner does."""

    form = "delta"

    def __init__(self, where, partition=None):
        self.where, self.partition = where, partition

    def append(self, rows):
        by = [self.partition] if self.partition else None
        write_deltalake(self.where, rows, mode="append", partition_by=by)

    def delete(self, condition):
        DeltaTable(self.where).delete(condition)

    def version(self):
        return DeltaTable(self.where).version()


class Iceberg:
    """An Iceberg table of a catalog in a file."""

    form = "iceberg"

    def __init__(self, where, partition=None):
        self.where, self.partition, self.table = where, partition, None

    def append(self, rows):
        if self.table is None:
            folder = self.where.parent
            folder.mkdir(parents=True, exist_ok=True)
            catalog = SqlCatalog("x", uri=f"sqlite:///{folder}/x.db", warehouse=f"file://{folder}")
            catalog.create_namespace_if_not_exists("shop")
            name = f"shop.{self.where.name}"
            self.table = catalog.create_table(name, rows.schema, location=str(self.where))
            if self.partition:
                with self.table.update_spec() as spec:
                    spec.add_identity(self.partition)
        self.table.append(rows)

    def delete(self, condition):
        self.table.delete(condition)

    def version(self):
        return self.table.current_snapshot().snapshot_id


@pytest.fixture(params=[Delta, Iceberg])
def kind(request):
    return request.param


def found_of(frame):
    rows = frame.orderBy("timestamp").collect()
    return [(r["user_id"], r["item_id"], r["seen"], r["bought"], r["day"]) for r in rows]


def expected_of(day, count=4, first=0):
    return [(f"u{n}", n % 100, [n % 100], n % 2, day) for n in range(first, first + count)]


@pytest.mark.parametrize("unit", ["", "milliseconds"])
@pytest.mark.parametrize("partition", [None, "dt"])
def test_a_day_is_the_rows_of_the_day(spark, tmp_path, kind, unit, partition):
    table = kind(tmp_path / "warehouse" / "visits", partition)
    table.append(
        pa.concat_tables(rows_of(day, first=10 * n, unit=unit) for n, day in enumerate(DAYS))
    )
    table.append(rows_of(DAYS[1], count=2, first=50, unit=unit))
    kind(tmp_path / "warehouse" / "prices").append(ITEMS)
    more = f"path: {table.where}, item_path: {tmp_path}/warehouse/prices"
    if partition:
        more += ", partition: dt"
    found = data_set(tmp_path, kind.form, unit=unit, more=more)
    reader = Reader(found.schema, found.source)
    landing = place(tmp_path / "landing" / "shop")
    assert found_of(reader.read_days(spark, landing, DAYS[:1])) == expected_of(DAYS[0])
    frame = reader.read_days(spark, landing, DAYS[1:])
    second = expected_of(DAYS[1], first=10) + expected_of(DAYS[1], 2, 50)
    assert sorted(found_of(frame)) == sorted(second + expected_of(DAYS[2], first=20))
    row = frame.orderBy("example_id").first()
    assert row["source_file"].startswith(f"visits@{table.version()}/")
    assert row["source_file"].endswith(".parquet")
    lines = frame.groupBy("source_file").agg({"source_line": "max", "*": "count"}).collect()
    assert all(line["max(source_line)"] >= line["count(1)"] for line in lines)
    (attributes,) = found.schema.tables[2:]
    prices = reader.read_attributes(spark, landing, attributes).orderBy("item_id").collect()
    assert [tuple(row) for row in prices] == [(1, 1.5), (2, None)]
    assert reader.versions[str(table.where)] == table.version()
    assert problems_of_source(found, place(tmp_path / "landing")) == []


def test_what_was_deleted_or_corrected_is_not_read(spark, tmp_path, kind):
    table = kind(tmp_path / "shop" / "impressions")
    table.append(rows_of(DAYS[0]))
    table.append(rows_of(DAYS[1]))
    table.delete("user_id = 'u1'")
    found = data_set(tmp_path, kind.form)
    frame = Reader(found.schema, found.source).read_days(spark, tmp_path / "shop", DAYS[:1])
    assert [row[0] for row in found_of(frame)] == ["u0", "u2", "u3"]


def test_only_a_day_of_which_a_commit_has_rows_is_found_to_have_changed(tmp_path, kind):
    """Each look opens the newest version; a commit of another day changes no day before it."""
    table = kind(tmp_path / "shop" / "impressions")
    found = data_set(tmp_path, kind.form)

    def inputs(day):
        return Reader(found.schema, found.source).landed_inputs(place(tmp_path / "shop"), day)

    table.append(rows_of(DAYS[0]))
    table.append(rows_of(DAYS[1]))
    before = [inputs(day) for day in DAYS[:2]]
    assert before[0].keys() == {"landed", "source"}
    assert before[0]["landed"] != before[1]["landed"]
    table.append(rows_of(DAYS[2]))
    assert [inputs(day) for day in DAYS[:2]] == before
    table.append(rows_of(DAYS[1], count=2, first=50))
    assert inputs(DAYS[0]) == before[0]
    assert inputs(DAYS[1]) != before[1]
    table.delete("user_id = 'u1'")
    assert inputs(DAYS[0])["landed"] != before[0]["landed"]


def test_a_day_has_landed_when_the_table_has_rows_of_it_or_of_a_later_one(spark, tmp_path, kind):
    table = kind(tmp_path / "shop" / "impressions")
    table.append(rows_of(DAYS[0]))
    found = data_set(tmp_path, kind.form)
    reader = Reader(found.schema, found.source)
    with pytest.raises(
        RunbookError, match=r"2025-03-02 has not landed .* has no rows of it"
    ) as late:
        reader.read_days(spark, tmp_path / "shop", DAYS[:2])
    assert late.value.summary == {"runbook": "day-not-landed"}
    table.append(rows_of(DAYS[2]))
    assert reader.read_days(spark, tmp_path / "shop", DAYS[1:2]).count() == 0
    assert reader.read_days(spark, tmp_path / "shop", DAYS[2:]).count() == 4


def test_a_table_that_is_not_there_or_lacks_a_column_is_named(spark, tmp_path, kind):
    found = data_set(tmp_path, kind.form)
    landing = place(tmp_path)
    (problem,) = problems_of_source(found, landing)
    assert f"{tmp_path}/shop/impressions: there is no" in problem
    kind(tmp_path / "shop" / "impressions").append(rows_of(DAYS[0]).drop(["bought"]))
    assert problems_of_source(found, landing) == []
    with pytest.raises(RunbookError, match=r"column bought is missing; the schema has"):
        Reader(found.schema, found.source).read_days(spark, landing / "shop", DAYS[:1])
    more = data_set(tmp_path, kind.form, more="partition: day_of_visit")
    (problem,) = problems_of_source(more, landing)
    assert "column day_of_visit, that says of which day a row is, is not among" in problem


def test_a_table_that_cannot_be_read_rightly_is_refused(tmp_path, kind):
    """Rows that a deletion vector has deleted would be read as if they were there."""
    found = data_set(tmp_path, kind.form)
    table = kind(tmp_path / "shop" / "impressions")
    table.append(rows_of(DAYS[0], unit="milliseconds"))
    (problem,) = problems_of_source(found, place(tmp_path))
    assert "a column of type int64 does not say of which day a row is; a timestamp, an" in problem
    if kind is Iceberg:
        folder = table.where / "metadata"
        newest = max(folder.glob("*.metadata.json"))
        (folder / f"{newest.name[:5]}-other.metadata.json").write_bytes(newest.read_bytes())
        named = r"have the same number.*name that file in source.path"
    else:
        log = table.where / "_delta_log" / f"{0:020d}.json"
        protocol = '"protocol":{"minReaderVersion":3,"minWriterVersion":7,'
        features = '"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}'
        text = re.sub(r'"protocol":\{[^}]*\}', protocol + features, log.read_text())
        log.write_text(text)
        named = "cannot be read as Delta: .*deletionVectors"
    with pytest.raises(RunbookError, match=named):
        Reader(found.schema, found.source).landed_since(place(tmp_path / "shop"), DAYS[0])


def test_ingest_records_the_version_and_a_push_takes_new_files(spark, tmp_path, monkeypatch, kind):
    from features.pipeline import jobs
    from features.pipeline.ingestion.ingest import ingest
    from features.pipeline.workspace import Workspace
    from features.push.push_day import LandedUsers
    from features.validation import checks

    found = data_set(tmp_path, kind.form)
    monkeypatch.setenv("RANKING_SCHEMAS", str(tmp_path))
    table = kind(tmp_path / "landing" / "shop" / "impressions")
    kind(tmp_path / "landing" / "shop" / "items").append(ITEMS)
    table.append(pa.concat_tables([rows_of(DAYS[0]), rows_of(DAYS[1], count=2, first=40)]))
    work = Workspace(spark, found.schema, Lake(tmp_path / "lake", "shop"))
    ingest(work, tmp_path / "landing", DAYS[:1])
    history = work.lake.snapshot(IMPRESSIONS_RAW).history()
    assert history[0]["inputs"] == {str(table.where): table.version()}
    assert not checks.check_impressions(work, DAYS[:1], tmp_path / "reports").critical
    jobs.publish_features(work, jobs.build(work, tmp_path / "landing", DAYS[:1]), DAYS[:1])
    landed = LandedUsers(work, tmp_path / "landing")
    noon = datetime.datetime(2025, 3, 2, 23, 59, 59, tzinfo=UTC)
    batch = landed.poll(lambda _newest: noon)
    assert batch.impressions == 2, "of the file with both days the rows of the second alone"
    # The label of the last impression of the built day is known an hour later.
    assert set(batch.rows["user_id"]) == {"u3", "u40"}
    assert landed.poll(lambda _newest: noon) is None
    table.append(rows_of(DAYS[1], count=3, first=60))
    batch = landed.poll(lambda _newest: noon)
    assert (batch.impressions, len(batch.files)) == (3, 1)
    assert set(batch.rows["user_id"]) == {"u60", "u61"}
