"""Each fault of a landed log is found and named; a good log has none."""

import datetime
import json

import pytest
from support.logs import click_log

from features import __main__ as features_main


def run(capsys, folder, *flags):
    """Exit code, findings and the whole of stdout."""
    code = features_main.main(
        ["check", f"--schema={folder / 'clicks.yaml'}", f"--landing={folder / 'landing'}", *flags]
    )
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    summary = json.loads(printed.out.splitlines()[-1])
    return code, summary, printed.out


def found(capsys, folder, *flags):
    """Exit code, and what was found as (level, topic, key)."""
    code, summary, _ = run(capsys, folder, *flags)
    return code, [(one["level"], one["topic"], one["key"]) for one in summary.get("findings", ())]


def test_a_good_log_has_no_findings(tmp_path, capsys):
    click_log.land(tmp_path)
    code, summary, page = run(capsys, tmp_path)
    assert (code, summary["findings"]) == (0, [])
    assert (summary["rows"], len(summary["days"])) == (1200, 3)
    assert "clicks: 1,200 rows of 3 days, 2025-03-01 to 2025-03-03" in page
    assert "found: nothing" in page


def each(column, value):
    """Sets a column of every row; ``value`` is a value or a function of the row."""

    def spoil(_, rows):
        for row in rows:
            row[column] = value(row) if callable(value) else value

    return spoil


def some(column, value, every):
    """Sets a column in each so many-th row."""

    def spoil(_, rows):
        for row in rows[::every]:
            row[column] = value

    return spoil


def one(change):
    """Spoils a row of the second day."""

    def spoil(day, rows):
        if day == 1:
            change(rows[7])

    return spoil


def shifted(hours):
    def spoil(_, rows):
        for row in rows:
            moment = datetime.datetime.fromisoformat(row["at"])
            row["at"] = (moment + datetime.timedelta(hours=hours)).isoformat()

    return spoil


def without(column):
    def spoil(_, rows):
        for row in rows:
            del row[column]

    return spoil


def doubled(day, rows):
    if day == 1:
        rows.append(dict(rows[3]))


def half(day, rows):
    if day == 1:
        del rows[100:]


def many(day, rows):
    if day == 1:
        for n in range(4):
            rows += [
                {**row, "example_id": 50_000 + 1000 * n + at, "visitor": 1 + n}
                for at, row in enumerate(click_log.rows_of(day))
            ]


FAULTS = [
    # what is spoilt, level, topic, key, what is said
    (without("basket"), "error", "unreadable-file", "2025-03-01",
     "column basket, which is read as"),
    (each("basket", "9,95"), "error", "quarantine", "2025-03-01", "at most 5%"),
    (some("basket", "9,95", 40), "warning", "missing-value", "context.basket",
     "cannot be read as float64, such as '9,95' (impressions/2025-03-01.csv, line 2)"),
    (some("basket", "-1", 40), "warning", "out-of-range", "context.basket.minimum",
     "values are -1"),
    (some("visitor", "", 40), "error", "missing-value", "user",
     "30 of 1,200 rows (2.50%) have no val"),
    (some("visitor", "v-7", 40), "error", "missing-value", "user", "such as 'v-7'"),
    (some("clicked", "2", 40), "warning", "out-of-range", "stored.clicked.maximum",
     "outside 0 to 1; values are 0 to 2"),
    (some("device", "tv", 40), "warning", "unseen-value", "context.device.vocabulary", "'tv' (30)"),
    (some("tags", "new|blue", 40), "warning", "unseen-value", "context.tags.vocabulary",
     "'blue' (30)"),
    (some("tags", "new|red|sale|new", 40), "warning", "long-list", "context.tags.max_length",
     "than 3"),
    (some("device", "tv", 4), "error", "quarantine", "2025-03-02", "100 of 400 rows (25.00%)"),
    (each("clicked", 0), "error", "constant-label", "labels.click", "all 1,200 rows are negative"),
    (each("clicked", lambda row: int(row["example_id"] % 50 == 0)), "error", "label-rate",
     "limits.min_positive_rate", "2.00% of the rows of 2025-03-01 are positive; at least 5.00%"),
    (each("clicked", lambda row: int(row["example_id"] % 4 > 0)), "error", "label-rate",
     "limits.max_positive_rate", "75.00% of the rows of 2025-03-01 are positive; at most 50.00%"),
    (each("clicked", lambda row: int(row["example_id"] % 20 == 0)), "warning", "label-rate",
     "labels.click.prior_rate", "0.2, and 5.00% of the rows"),
    (each("basket", lambda row: 10 * row["clicked"] + 1), "error", "leak", "context.basket",
     "(AUC 1.000)"),
    (each("coupon", lambda row: f"c-{row['example_id']}" if row["clicked"] else ""), "error",
     "leak",
     "context.coupon", "move it to stored"),
    (each("dwell", lambda row: 5 + row["example_id"] % 7 if row["clicked"] else ""), "info", "leak",
     "stored.dwell", "let it stay so"),
    (doubled, "error", "repeated-id", "example_id",
     "2 rows share 1 values of example_id, such as 100003"),
    (each("visitor", lambda row: row["example_id"]), "warning", "small-table", "user.hash_size",
     "1,200 ids in these days, hashed to 1,000 rows: 70%"),
    (some("article", 50, 40), "warning", "small-table", "item.num_ids", "30 of 1,200 ids (2.50%)"),
    (half, "error", "small-day", "2025-03-02", "100 rows, and 400 in the middle"),
    (many, "warning", "large-day", "2025-03-02", "2000 rows, and 400 in the middle"),
    (each("visitor", 7), "warning", "busy-user", "limits.max_rows_of_user", "such as 7"),
    (shifted(6), "error", "time-zone", "source.time",
     "(25.00%) are on another day (UTC) than"
     " their file, up to 5.9 hours after it"),
    (shifted(-1), "warning", "time-zone", "source.time", "up to 1.0 hours before its day"),
    (each("at", "yesterday"), "error", "missing-value", "source.time", "such as 'yesterday'"),
    (some("coupon", "", 2), "info", "missing-value", "context.coupon", "missing in 50.0% of 1,200"),
    (each("coupon", ""), "warning", "missing-value", "context.coupon", "missing in 100.0%"),
    (some("dwell", "5 s", 40), "warning", "missing-value", "stored.dwell", "such as '5 s'"),
    (each("device", "phone"), "info", "constant-column", "context.device", "the same value"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "level", "topic", "key", "said"), FAULTS)
def test_a_fault_is_found_and_named(tmp_path, capsys, spoil, level, topic, key, said):
    click_log.land(tmp_path, spoil=spoil)
    code, summary, page = run(capsys, tmp_path)
    matching = [
        one
        for one in summary["findings"]
        if (one["level"], one["topic"], one["key"]) == (level, topic, key)
    ]
    assert matching, summary["findings"]
    assert said in matching[0]["said"]
    assert f"{key}: {matching[0]['said']}" in page
    errors = [one for one in summary["findings"] if one["level"] == "error"]
    assert code == (1 if errors else 0)


@pytest.mark.parametrize(
    ("derived", "said"),
    [
        (
            "{from: [visitor, timestamp]}",
            "2 rows share 1 values of visitor and timestamp, such as ",
        ),
        ("{column: example_id}", "2 rows share 1 values of example_id, such as 100003"),
        ("{column: coupon}", "1,200 rows share 8 values of coupon, such as c-0"),
    ],
)
def test_keys_of_derived_ids_that_are_there_twice_are_named(tmp_path, capsys, derived, said):
    schema = click_log.land(tmp_path, spoil=doubled)
    schema.write_text(schema.read_text().replace("user: {", f"example_id: {derived}\nuser: {{"))
    code, summary, _ = run(capsys, tmp_path)
    assert code == 1
    (found,) = [one for one in summary["findings"] if one["topic"] == "repeated-id"]
    assert said in found["said"].replace("1,201", "1,200")


def test_a_day_that_has_not_landed_is_missed(tmp_path, capsys):
    click_log.land(tmp_path)
    click_log.day_file(tmp_path, 1).unlink()
    code, findings = found(capsys, tmp_path)
    assert (code, findings) == (1, [("error", "missing-day", "days")])
    click_log.day_file(tmp_path, 0).unlink()
    code, findings = found(capsys, tmp_path)
    assert (code, findings) == (1, [("error", "missing-day", "first_day")])


def test_a_day_that_is_asked_for_and_not_there_is_named(tmp_path, capsys):
    click_log.land(tmp_path)
    code, summary, _ = run(capsys, tmp_path, "--days", "2025-03-02", "2025-03-09")
    assert (code, summary["days"], summary["rows"]) == (1, ["2025-03-02"], 400)
    assert "2025-03-09.csv has not landed" in summary["error"]


def test_days_before_the_first_day_are_named(tmp_path, capsys):
    schema = click_log.land(tmp_path)
    schema.write_text(schema.read_text().replace("first_day: 2025-03-01", "first_day: 2025-03-02"))
    assert found(capsys, tmp_path) == (0, [("warning", "early-day", "first_day")])


def test_a_file_that_is_cut_off_is_named_and_the_others_are_read(tmp_path, capsys):
    click_log.land(tmp_path)
    file = click_log.day_file(tmp_path, 1)
    file.write_text(file.read_text()[:-3])
    code, summary, _ = run(capsys, tmp_path)
    assert (code, summary["rows"]) == (1, 800)
    assert f"{file} is cut off" in summary["error"]


def test_a_line_with_too_many_values_is_named_with_its_file_and_line(tmp_path, capsys):
    click_log.land(tmp_path)
    file = click_log.day_file(tmp_path, 1)
    lines = file.read_text().splitlines()
    lines[4] += ",more"
    file.write_text("\n".join(lines) + "\n")
    code, summary, _ = run(capsys, tmp_path)
    said = {one["key"]: one["said"] for one in summary["findings"] if one["topic"] == "broken-line"}
    assert code == 1
    assert "the first is line 5" in said[str(file)]


def test_a_log_that_has_not_landed_is_an_error(tmp_path, capsys):
    (tmp_path / "clicks.yaml").write_text(click_log.SCHEMA)
    code, summary, _ = run(capsys, tmp_path)
    assert code == 1
    assert "no day has landed; a day is a file such as" in summary["error"]


ITEMS = """\
  - kind: item_attributes
    doc: What is known of articles.
    columns:
      price: {type: float64, kind: dense, doc: Price of the article.}
"""


@pytest.mark.parametrize(
    ("rows", "level", "topic", "said"),
    [
        (
            None,
            "error",
            "unreadable-file",
            "items.csv has not landed; it has what is",
        ),
        ("article,cost\n1,2\n", "error", "unreadable-file", "column price, which is read as price"),
        ("article,price\n", "error", "unreadable-file", "has no rows"),
        (
            "article,price\n" + "1,2\n" * 2,
            "error",
            "repeated-id",
            "1 values of article are there",
        ),
        (
            "article,price\n1,2\n",
            "warning",
            "unknown-id",
            "are of items that items.csv lacks",
        ),
    ],
)
def test_a_file_of_attributes_is_checked(tmp_path, capsys, rows, level, topic, said):
    schema = click_log.land(tmp_path, days=1)
    schema.write_text(schema.read_text().replace("limits:\n", f"{ITEMS}limits:\n"))
    items = tmp_path / "landing" / "clicks" / "items.csv"
    good = "article,price\n" + "".join(f"{n},{n}\n" for n in range(40))
    items.write_text(good)
    assert found(capsys, tmp_path) == (0, [])
    items.unlink()
    if rows is not None:
        items.write_text(rows)
    code, summary, _ = run(capsys, tmp_path)
    assert code == (1 if level == "error" else 0)
    (one,) = [one for one in summary["findings"] if one["topic"] == topic]
    assert (one["level"], one["key"]) == (level, "tables.2")
    assert said in one["said"]
