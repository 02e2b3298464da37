"""A format of one's own is read by the module that the schema file names."""

import sys

import pytest
from support.logs.landed_shop import SCHEMA, data_set

from features.datasets import catalog
from features.datasets.readers import Reader, reader_of

pytestmark = pytest.mark.spark
OWN = """\
from pyspark.sql import functions as F


def fetch(schema, landing, **options):
    return {"rows": options["rows"], "landing": str(landing)}


def read_files(spark, schema, paths):
    return spark.range(len(paths)).withColumn("name", F.lit(schema.name))


def read_attributes(spark, schema, landing, table):
    return spark.range(3)
"""


def test_a_format_of_ones_own_is_read_by_the_module_that_the_file_names(
    spark, tmp_path, monkeypatch
):
    (tmp_path / "shop_reader.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    text = SCHEMA.partition("source:")[0]
    source = "source: {reader: shop_reader, suffix: log.gz, fetch: shop_reader}\n"
    (tmp_path / "shop.yaml").write_text(text + source)
    monkeypatch.setenv("RANKING_SCHEMAS", str(tmp_path))
    reader = reader_of(catalog.schema_of("shop"))
    assert reader.suffix == "log.gz"
    assert [row["name"] for row in reader.read_files(spark, ["a", "b"]).collect()] == ["shop"] * 2
    (table,) = catalog.schema_of("shop").tables
    assert reader.read_attributes(spark, tmp_path, table).count() == 3
    assert reader.fetch(tmp_path, rows=3)["rows"] == 3
    monkeypatch.delitem(sys.modules, "shop_reader")


def test_a_module_without_its_functions_is_named(tmp_path):
    found = data_set(tmp_path, "tsv", None)
    (table,) = found.schema.tables
    source = found.source.model_copy(update={"fetch": "this", "reader": "json"})
    reader = Reader(found.schema, source)
    with pytest.raises(ValueError, match=r"shop: source.fetch this: has no function fetch$"):
        reader.fetch(tmp_path)
    missing = "source.reader json: has no function read_files, read_attributes"
    with pytest.raises(ValueError, match=missing):
        reader.read_files(None, [])
    with pytest.raises(ValueError, match=missing):
        reader.read_attributes(None, tmp_path, table)


def test_a_module_that_is_not_there_is_named(tmp_path):
    found = data_set(tmp_path, "tsv", None)
    source = found.source.model_copy(update={"fetch": "features.datasets.shop_log"})
    with pytest.raises(ValueError, match=r"dataset shop: source.fetch features.*shop_log: no such"):
        Reader(found.schema, source).fetch(tmp_path)
    with pytest.raises(ValueError, match=r"nothing fetches its log .*impressions/YYYY-MM-DD.tsv"):
        Reader(found.schema, found.source).fetch(tmp_path)
