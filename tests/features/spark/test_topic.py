"""A topic is read by Spark's connector, a day by the messages' timestamps.

Here a data source of the tests stands in for the connector, which this Spark has not.
"""

import datetime

import pytest
from pyspark.sql import DataFrameReader
from pyspark.sql.datasource import DataSource, DataSourceReader

from features.datasets.readers import Reader
from features.datasets.schema_files.build import read_data_set
from features.datasets.source_problems import problems_of_source
from features.places import place
from features.spark import topic

pytestmark = pytest.mark.spark
DAY = datetime.date(2025, 3, 1)
SCHEMA = """\
name: shop
doc: Visits.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
example_id: {column: event}
user: {name: user_id, type: string, kind: sparse, hash_size: 100, doc: The visitor.}
item: {name: item_id, type: int64, kind: sparse, num_ids: 100, doc: The article.}
stored: {bought: {type: int64, doc: Whether it was bought.}}
labels:
  sale: {column: bought, positive_from: 1, delay: 1h}
target: sale
tables:
  - {kind: user_state, history_length: 5, ttl: 30d, delay: 5m}
  - {kind: item_daily, windows_days: [7], ttl: 7d, delay: 2h}
limits:
  min_positive_rate: 0
  max_positive_rate: 1
  min_share_of_trailing_rows: 0
  max_times_trailing_rows: 5
source:
  format: kafka
  kafka: {servers: "broker:9092", topic: visits}
  time: {column: at, unit: milliseconds}
"""


@pytest.fixture
def found(tmp_path):
    (tmp_path / "shop.yaml").write_text(SCHEMA)
    return read_data_set(tmp_path / "shop.yaml")


def test_without_the_connector_the_error_says_what_to_do(spark, tmp_path, found):
    with pytest.raises(ValueError, match=r"topic visits: this Spark has no Kafka connector; put"):
        Reader(found.schema, found.source).read_days(spark, place(tmp_path), [DAY])
    connector, push = problems_of_source(found, place(tmp_path), {})
    assert "set RANKING_SPARK_PACKAGES=org.apache.spark:spark-sql-kafka-0-10_2.13:" in connector
    assert "set RANKING_PUSH=off" in push
    has_all = {
        "RANKING_PUSH": "off",
        topic.PACKAGES: "org.apache.spark:spark-sql-kafka-0-10_2.13:4.3.0",
    }
    assert problems_of_source(found, place(tmp_path), has_all) == []


class Connector(DataSource):
    """The columns and options of Spark's connector that are used."""

    @classmethod
    def name(cls):
        return "stand_in"

    def schema(self):
        message = "key binary, value binary, topic string, partition int, offset long"
        return f"{message}, timestamp timestamp"

    def reader(self, schema):
        return Messages(self.options)


class Messages(DataSourceReader):
    def __init__(self, options):
        self.options = options

    def read(self, partition):
        import datetime
        import json

        start, end = (int(self.options[f"{name}Timestamp"]) for name in ("starting", "ending"))
        assert self.options["kafka.bootstrap.servers"] == "broker:9092"
        for offset in range(6):
            # Every eight hours from the evening before on.
            at = 1_740_787_200_000 + (offset - 1) * 8 * 3_600_000
            if start <= at < end:
                body = {"event": f"e{offset}", "user_id": "u", "item_id": offset, "at": at}
                text = "no json" if offset == 2 else json.dumps({**body, "bought": 1})
                moment = datetime.datetime.fromtimestamp(at / 1000, datetime.UTC)
                yield None, text.encode(), self.options["subscribe"], 3, offset, moment


def test_a_day_is_the_messages_of_the_day(spark, tmp_path, found, monkeypatch):
    spark.dataSource.register(Connector)
    of_name, names = DataFrameReader.format, {"kafka": Connector.name()}
    monkeypatch.setattr(DataFrameReader, "format", lambda self, name: of_name(self, names[name]))
    frame = Reader(found.schema, found.source).read_days(spark, place(tmp_path), [DAY])
    rows = [
        (r.example_key, r.item_id, r.source_file, r.source_line, r.day)
        for r in frame.orderBy("source_line").collect()
    ]
    where = "topic/visits/3"
    assert rows == [
        ("e1", 1, where, 1, DAY),
        (None, None, where, 2, DAY),
        ("e3", 3, where, 3, DAY),
    ]


def test_users_and_items_of_a_topic_land_as_files(spark, tmp_path):
    text = SCHEMA.replace(
        "limits:",
        "  - kind: item_attributes\n    doc: What the shop says.\n"
        "    columns: {price: {type: float64, kind: dense, doc: Price.}}\nlimits:",
    )
    (tmp_path / "shop.yaml").write_text(text)
    found = read_data_set(tmp_path / "shop.yaml")
    (tmp_path / "items.jsonl").write_text('{"item_id": 3, "price": 1.5}\n')
    reader = Reader(found.schema, found.source)
    items = reader.read_attributes(spark, place(tmp_path), found.schema.tables[2])
    assert [tuple(row) for row in items.collect()] == [(3, 1.5)]
