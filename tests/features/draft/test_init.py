"""A schema file is drafted from a log: it is accepted as it is, and says why what was guessed."""

import datetime
import gzip
import json
import re

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from support.logs.made_logs import clicks, impressions, ratings, write_csv

from features import __main__ as features_main
from features.datasets.schema_files.build import read_data_set
from features.schema import Dtype, Kind, TableKind


def run(capsys, *arguments):
    """Exit code, the summary, and what is on stderr."""
    code = features_main.main(list(map(str, arguments)))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, json.loads(printed.out.splitlines()[-1]), printed.err


def drafted(capsys, folder, *flags, name="shop"):
    """The data set of an accepted draft, and its text."""
    output = folder / f"{name}.yaml"
    code, summary, err = run(capsys, "init", *flags, f"--output={output}")
    assert code == 0, (summary, err)
    code, summary, err = run(capsys, "describe", f"--schema={output}")
    assert code == 0, err
    return read_data_set(output), output.read_text()


def test_a_log_of_ratings_is_drafted(tmp_path, capsys):
    log = write_csv(tmp_path / "ratings.csv", ratings())
    films = {
        "movieId": list(range(1, 301)),
        "title": [f"Film {n}, The" for n in range(300)],
        "genres": [
            "|".join(["Action", "Drama", "War"][n % 2 : n % 3 + 1]) or "War" for n in range(300)
        ],
        "year": [1950 + n % 50 for n in range(300)],
    }
    items = write_csv(tmp_path / "movies.csv", films)
    data_set, text = drafted(capsys, tmp_path, "--from", log, "--items", items)
    schema = data_set.schema
    assert (schema.user.name, schema.item.name, schema.item.num_ids) == ("user_id", "movie_id", 500)
    assert (schema.label.column, schema.label.positive_from, schema.label.has_rating) == (
        "rating",
        4,
        True,
    )
    assert str(schema.first_day) == "1997-09-20"
    assert (
        schema.limits.min_positive_rate < schema.label.prior_rate < schema.limits.max_positive_rate
    )
    assert data_set.source.time.unit == "seconds"
    assert data_set.source.columns["movie_id"] == "movieId"
    assert "seconds since 1970" in text
    (table,) = schema.tables_of(TableKind.ATTRIBUTES)
    by_name = {column.name: column for column in table.columns}
    assert by_name["item_genres"].vocabulary == ("Action", "Drama", "War")
    assert by_name["item_title"].kind is Kind.STORED
    assert (schema.item_title, data_set.source.list_separator) == ("item_title", "|")


def test_a_log_of_clicks_with_requests_is_drafted(tmp_path, capsys):
    log = write_csv(tmp_path / "clicks.csv", clicks())
    data_set, text = drafted(capsys, tmp_path, "--from", log, name="clicks")
    schema = data_set.schema
    assert (schema.user.dtype, schema.user.hash_size) == (Dtype.STRING, 1000)
    assert re.search(r"(59|60) ids were seen", text)
    assert (schema.request.name, schema.request.dtype) == ("request_uuid", Dtype.STRING)
    assert schema.context[0].neutral == 1
    assert schema.example_id.keys == ("request_uuid", "sku")
    assert [label.name for label in schema.labels] == ["click", "order"]
    assert (schema.target, schema.label.delay) == ("click", datetime.timedelta(minutes=10))
    assert [column.name for column in schema.context] == ["position", "device"]
    device = next(column for column in schema.context if column.name == "device")
    assert device.vocabulary == ("no", "phone")  # and not the truth value that YAML has for no
    assert {column.name for column in schema.stored} == {
        "clicked",
        "ordered",
        "price",
        "seconds_on_page",
    }
    assert re.search(r"seconds_on_page:\n +# it tells the label \(AUC 1.000 by itself\)", text)
    assert re.search(r"price:\n +# each item has one value of it: an attribute", text)
    assert "no moment has an offset, so UTC is assumed" in text


def test_a_log_in_parquet_is_drafted(tmp_path, capsys):
    pq.write_table(pa.table(impressions()), tmp_path / "log.parquet")
    data_set, text = drafted(capsys, tmp_path, "--from", tmp_path / "log.parquet", name="news")
    schema = data_set.schema
    assert (schema.name, schema.user.name, schema.item.name) == ("news", "member_id", "article_id")
    assert (schema.item.num_ids, schema.item.hash_size) == (0, 50_000)
    assert schema.example_id is None
    assert (data_set.source.format, data_set.source.time.unit) == ("parquet", None)
    assert {column.name: column.dtype for column in schema.context} == {
        "platform": Dtype.STRING,
        "campaign_tags": Dtype.STRING_LIST,
    }
    amount = next(column for column in schema.stored if column.name == "amount")
    assert amount.is_nullable
    assert "missing in " in text
    assert "is_new" not in {column.name for column in schema.columns()}  # no bool in a schema file


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_compressed_files_are_drafted_as_the_others_are(tmp_path, capsys, compression):
    plain = write_csv(tmp_path / "clicks.csv", clicks(60)).read_bytes()
    path = tmp_path / f"clicks.csv.{compression}"
    packed = gzip.compress(plain) if compression == "gz" else zstandard.compress(plain)
    path.write_bytes(packed)
    _, text = drafted(capsys, tmp_path, "--from", path, name="packed")
    assert f"\n  compression: {compression}\n" in text
    _, other = drafted(capsys, tmp_path, "--from", tmp_path / "clicks.csv", name="plain")
    changed = text.replace(f"  compression: {compression}\n", "").replace("packed", "plain")
    changed = changed.replace(f"items.csv.{compression}", "items.csv")
    assert changed.splitlines()[3:] == other.splitlines()[3:]


def test_json_lines_tab_separated_files_and_folders_of_days_are_read(tmp_path, capsys):
    columns = clicks(60)
    write_csv(tmp_path / "clicks.tsv", columns, separator="\t")
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    folder = tmp_path / "news" / "impressions"
    folder.mkdir(parents=True)
    for day in sorted({row["at"][:10] for row in rows}):
        lines = [json.dumps(row) for row in rows if row["at"].startswith(day)]
        (folder / f"{day}.jsonl").write_text("\n".join(lines) + "\n")
    one, _ = drafted(capsys, tmp_path, "--from", tmp_path / "clicks.tsv", name="tabs")
    other, text = drafted(capsys, tmp_path, "--from", folder, name="lines")
    assert (one.source.format, other.source.format) == ("tsv", "jsonl")
    assert [c.name for c in one.schema.columns()] == [c.name for c in other.schema.columns()]
    assert "2 files" in text


def test_a_delta_table_is_drafted(tmp_path, capsys):
    deltalake.write_deltalake(str(tmp_path / "table"), pa.table(impressions()))
    data_set, _ = drafted(capsys, tmp_path, "--from", tmp_path / "table", name="lake")
    assert data_set.source.format == "delta"
    assert data_set.schema.user.name == "member_id"


def test_the_name_is_the_files_or_the_folders(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "My Shop.csv", ratings(500))
    code, summary, _ = run(capsys, "init", "--from", "My Shop.csv")
    assert (code, summary["output"]) == (0, "my-shop.yaml")
    code, summary, _ = run(
        capsys, "init", "--from", "My Shop.csv", "--name", "stall", "--rows", 100
    )
    assert (code, summary["output"], summary["rows"]) == (0, "stall.yaml", 100)
    assert "from 100 rows of My Shop.csv, which have more" in (tmp_path / "stall.yaml").read_text()
    folder = tmp_path / "news" / "impressions"
    folder.mkdir(parents=True)
    write_csv(folder / "2025-03-01.csv", ratings(500))
    code, summary, _ = run(capsys, "init", "--from", folder / "2025-03-01.csv")
    assert (code, summary["output"]) == (0, "news.yaml")


@pytest.mark.parametrize(
    ("renamed", "key"),
    [
        ({"timestamp": "x9"}, "first_day"),
        ({"movieId": "thing"}, "item"),
        ({"rating": "value"}, "labels"),
    ],
)
def test_what_the_log_does_not_say_is_asked(tmp_path, capsys, renamed, key):
    columns = {renamed.get(name, name): values for name, values in ratings(500).items()}
    if key == "first_day":
        columns["x9"] = [n % 7 for n in range(500)]
    log = write_csv(tmp_path / "log.csv", columns)
    output = tmp_path / "log.yaml"
    code, summary, err = run(capsys, "init", "--from", log, f"--output={output}")
    assert code == 1
    asked = [one for one in summary["questions"] if f": {key}: " in one]
    assert asked
    assert asked[0] in err
    line = int(asked[0].removeprefix(f"{output}:").partition(":")[0])
    assert f"# TODO {key}: " in output.read_text().splitlines()[line - 1]
    code, summary, _ = run(capsys, "describe", f"--schema={output}")
    assert code == 1
    assert f": {key}: missing; this key is required" in summary["error"]


def test_a_log_without_users_is_one(tmp_path, capsys):
    columns = ratings(500)
    del columns["userId"]
    log = write_csv(tmp_path / "log.csv", columns)
    code, summary, err = run(capsys, "init", "--from", log, f"--output={tmp_path / 'log.yaml'}")
    assert code == 0
    assert read_data_set(tmp_path / "log.yaml").schema.user is None
    assert "user: no column looks like the id of a user" in err
    assert summary["notes"]


def wrong(tmp_path):
    write_csv(tmp_path / "good.csv", ratings(50))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "marks.csv").write_text("user_id;item_id;click\n1;2;0\n")
    (tmp_path / "log.xlsx").write_bytes(b"PK")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1xxxx")
    (tmp_path / "broken.csv").write_text('a,b\n1,"2\n3,4,5\n')
    (tmp_path / "bad.jsonl").write_text('{"a": 1\n')
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "folder").mkdir()
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    (tmp_path / "good.yaml").write_text("name: good\n")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--from none.csv", "none.csv: there is no such file"),
        ("--from empty.csv", "empty.csv: "),
        ("--from header.csv", "header.csv: has no rows; a draft needs some"),
        (
            "--from marks.csv",
            "marks.csv: line 1 has one column, 'user_id;item_id;click'; expected ','",
        ),
        ("--from log.xlsx", "log.xlsx: its name ends with no known format; one of ['csv', "),
        ("--from cut.parquet", "cut.parquet: "),
        ("--from broken.csv", "broken.csv: "),
        ("--from bad.jsonl", "bad.jsonl: "),
        ("--from bad.csv.gz", "bad.csv.gz: "),
        ("--from folder", "folder: is a folder without files"),
        ("--from table", "table: is no Delta table that can be read"),
        ("--from good.csv cut.parquet --name a", "good.csv and cut.parquet: are of two formats"),
        ("--from good.csv", "--output good.yaml: is there already"),
        (
            "--from good.csv --name a --output b.yaml",
            "--output b.yaml: a schema file is named as its",
        ),
        ("--from good.csv --name a --items header.csv", "header.csv: has no rows"),
        ("--from good.csv --name a --items marks.csv", "marks.csv: line 1 has one column"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, capsys, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    wrong(tmp_path)
    code, summary, err = run(capsys, "init", *flags.split())
    assert code == 1
    assert said in summary["error"], summary["error"]
    assert "\n" not in summary["error"]
    assert f"error: {summary['error']}" in err
