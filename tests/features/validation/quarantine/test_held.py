"""What is in quarantine is counted by day, rule and reason; shares over days become a table."""

import datetime
import json

import pyarrow as pa
import pytest

from features import __main__ as features_main
from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.lake.lake import Lake
from features.pages import site
from features.pages.content import Tone
from features.validation.quarantine.due_partitions import dag_runs, rebuild_lines
from features.validation.quarantine.held import trends_until
from features.validation.quarantine.trend_page import trend_page
from features.validation.quarantine.trend_table import trend_table

DAYS = [datetime.date(2025, 1, day) for day in range(1, 6)]
DEVICE = ("device:vocabulary", "not one of the 3 known values")
CLICK = ("click:range", "outside 0 to 1")
MOMENT = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)


def write(lake, table, day, **columns):
    replace_day(lake.root / table, day, [pa.table(columns)])


def hold(lake, day, *broken):
    """Rows in quarantine, each with the rules that it broke."""
    texts = pa.list_(pa.string())
    write(
        lake,
        "quarantine_impressions",
        day,
        example_id=list(range(len(broken))),
        device=[f"fridge-{n}" for n in range(len(broken))],
        rules=pa.array([[rule for rule, _ in one] for one in broken], texts),
        reasons=pa.array([[reason for _, reason in one] for one in broken], texts),
    )


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """Three days of ten rows each; some of the second and the third are in quarantine."""
    monkeypatch.setenv("RANKING_VAR", str(tmp_path))
    lake = Lake(tmp_path / "lake", "synthetic")
    for day, num_held in zip(DAYS[:3], (0, 2, 3), strict=True):
        write(lake, "impressions", day, example_id=list(range(10 - num_held)))
    hold(lake, DAYS[1], [DEVICE, CLICK], [CLICK])
    hold(lake, DAYS[2], [DEVICE], [DEVICE], [DEVICE])
    moments = pa.array([MOMENT] * 2, pa.timestamp("us", tz="UTC"))
    write(
        lake,
        "quarantine_readmitted_impressions",
        DAYS[1],
        source=["fix.yaml@12"] * 2,
        readmitted_at=moments,
    )
    lake.refresh()
    return lake


def show(capsys, *flags):
    code = features_main.main(["quarantine", "show", "--dataset=synthetic", *flags])
    *lines, last = capsys.readouterr().out.splitlines()
    return code, "\n".join(lines), json.loads(last)


def test_rows_are_counted_by_day_rule_and_reason_with_their_share(lake, capsys):
    code, text, summary = show(capsys, "--rows=2")
    assert (code, summary["job"]) == (0, "quarantine show")
    counts = [(DAYS[1], *CLICK, 2, 0.2), (DAYS[1], *DEVICE, 1, 0.1), (DAYS[2], *DEVICE, 3, 0.3)]
    fields = ("day", "rule", "reason", "rows", "share")
    assert summary["held"] == [
        dict(zip(fields, (str(day), *one), strict=True)) for day, *one in counts
    ]
    assert [row["device"] for row in summary["rows"]] == ["fridge-0", "fridge-1"]
    assert summary["rows"][0]["rules"] == [DEVICE[0], CLICK[0]]
    again = {"day": str(DAYS[1]), "source": "fix.yaml@12", "moment": MOMENT.isoformat(), "rows": 2}
    assert summary["readmitted"] == [again]
    assert "2025-01-03  device:vocabulary  not one of the 3 known values     3  30.00%" in text
    assert "2025-01-02     2  fix.yaml@12" in text


def test_one_rule_of_some_days_is_shown(lake, capsys):
    flags = (f"--date={DAYS[0]}", f"--to={DAYS[1]}", "--rule=device:vocabulary")
    _, _, summary = show(capsys, *flags)
    assert [(one["rule"], one["rows"]) for one in summary["held"]] == [(DEVICE[0], 1)]
    assert [row["device"] for row in summary["rows"]] == ["fridge-0"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            (f"--date={DAYS[0]}",),
            "no row of 2025-01-01 to 2025-01-01 is held; newest days with such",
        ),
        (("--rule=device:present",), "is held by 'device:present'; rules that do: ['click:range'"),
        (
            ("--table=item_daily",),
            "quarantine of item_daily: no row was ever held; tables with such",
        ),
        (("--trend", "--date=2025-02-01"), "no day of 2025-02-01 to 2025-02-01 was checked"),
    ],
)
def test_where_nothing_is_held_words_say_of_what_there_is_something(lake, capsys, flags, said):
    code, _, summary = show(capsys, *flags)
    assert code == 1
    assert said in summary["error"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["show", "--to=2025-01-02"], "--to: 2025-01-02; not without --date"),
        (["show", "--rows=-1"], "--rows: -1; at least 0"),
        (["readmit", "--date=2025-01-02"], "--mapping, --file: none; at least one of them"),
    ],
)
def test_wrong_usage_is_named(capsys, command, said):
    with pytest.raises(SystemExit) as ended:
        features_main.main(["quarantine", *command, "--dataset=synthetic"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_days_that_hold_nothing_are_named_before_spark_starts(lake, capsys, tmp_path):
    (tmp_path / "fix.yaml").write_text("device:vocabulary: {device: {fridge: phone}}")
    flags = [f"--date={DAYS[0]}", "--dataset=synthetic", f"--mapping={tmp_path / 'fix.yaml'}"]
    assert features_main.main(["quarantine", "readmit", *flags]) == 1
    assert "no row of 2025-01-01 to 2025-01-01 is held" in capsys.readouterr().out


def test_a_trend_is_a_page_and_a_table_of_shares_by_rule_and_day(lake, capsys, tmp_path):
    code, text, summary = show(capsys, "--trend")
    assert code == 0
    assert summary["shares"] == {
        "click:range": {"2025-01-01": 0.0, "2025-01-02": 0.2, "2025-01-03": 0.0},
        "device:vocabulary": {"2025-01-01": 0.0, "2025-01-02": 0.1, "2025-01-03": 0.3},
    }
    assert "  device:vocabulary  0.00%  10.00%  30.00%" in text
    page = (tmp_path / "reports" / summary["report"]).read_text()
    assert page.count('id="mark') >= 2
    trends = trends_until(lake, schema_of("synthetic"), ["impressions", "item_daily"], DAYS[1])
    assert {name: table.columns for name, table in trends.items()} == {
        "impressions": ("rule", "01-01", "01-02")
    }


def test_a_share_that_stands_out_has_a_colour_and_a_day_without_a_check_a_dash():
    shares = {"click:range": dict(zip(DAYS, (0.0, 0.01, 0.011, 0.04, 0.06), strict=True))}
    table = trend_table([*DAYS, datetime.date(2025, 1, 6)], shares, limit=0.05)
    tones = [Tone.QUIET, Tone.PLAIN, Tone.PLAIN, Tone.UNSURE, Tone.BAD, Tone.PLAIN]
    assert [cell.tone for cell in table.cells[0][1:]] == tones
    assert table.cells[0][-1].text == "–"


def test_a_trend_without_a_held_row_says_so():
    page = trend_page(schema_of("synthetic"), "impressions", DAYS, {})
    assert site.text(page).startswith("synthetic: quarantine of impressions")
    assert page.verdict == "none held"


def test_what_is_due_is_made_again_by_commands_and_by_runs_in_order(tmp_path):
    lake, schema = Lake(tmp_path, "synthetic"), schema_of("synthetic")
    partitions = {"item_daily": DAYS[1:3], "examples": DAYS[1:2]}
    of_features, examples, online = rebuild_lines(lake, schema, partitions, MOMENT)
    flags = "--dataset synthetic --date 2025-01-02 --to 2025-01-03"
    at = "--available-at 2025-03-01T00:00:00+00:00"
    assert of_features == (
        f"python -m features build --first-day {at} {flags} && "
        f"python -m features validate --table features {flags}"
    )
    assert examples == "python -m features examples --dataset synthetic --date 2025-01-02"
    assert online == f"python -m features materialize {flags}"
    conf = [
        json.loads(line.split("--conf ")[1].strip("'"))
        for line in dag_runs(schema, partitions, MOMENT)
    ]
    assert [one["day"] for one in conf] == ["2025-01-02", "2025-01-03"]
    only_examples = {"item_daily": DAYS[1:2], "examples": DAYS[1:3]}
    run, command = dag_runs(schema, only_examples, MOMENT)
    assert run.startswith("airflow dags trigger daily_ranking_synthetic ")
    assert command == "python -m features examples --dataset synthetic --date 2025-01-03"
    assert rebuild_lines(lake, schema, {"examples": DAYS[1:2]}, MOMENT) == [examples]
    for line in (*of_features.split(" && "), examples, online):
        features_main.command_line().parser.parse_args(line.split()[3:])
