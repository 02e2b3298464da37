"""Retention deletes what nobody needs, and nothing that a pin or a running job does."""

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.lake_rows import COLUMNS, MONDAY, replaced, rows_of, struct_of, written

from features.__main__ import main
from features.datasets.catalog import schema_of
from features.lake.candidate import FOLDER as CANDIDATES
from features.lake.candidate import Candidate, candidates
from features.lake.commit import commit
from features.lake.day_file import DayFile
from features.lake.day_rows import FileDescription
from features.lake.inventory import inventory
from features.lake.lake import EXAMPLES
from features.lake.pins import FOLDER, all_pins, pins, put_pin, remove_pin
from features.lake.snapshot import snapshot
from features.pipeline.retention import prune
from features.places import place

pytestmark = pytest.mark.process
SCHEMA = schema_of("synthetic")
TUESDAY, WEDNESDAY = (MONDAY + datetime.timedelta(days=n) for n in (1, 2))


@pytest.fixture
def table(anywhere):
    """Four versions of two days of examples."""
    root = anywhere / SCHEMA.name / EXAMPLES
    for number in range(4):
        replaced(root, MONDAY, TUESDAY, who=str(number), run=f"run-{number}", inputs={"a": number})
    return root


def pruned(table, *, hours=0, keep_days=400):
    return prune(SCHEMA, table.parent.parent, today=TUESDAY, keep_days=keep_days, grace_hours=hours)


def test_files_of_superseded_versions_go_and_those_of_pinned_ones_stay(table):
    put_pin(table.parent, snapshot(table, 1), "2025-01-07", who="training")
    size = snapshot(table).num_bytes
    found = pruned(table)[EXAMPLES]
    assert (found["files"], found["pinned_versions"]) == (4, [1])
    assert found["bytes"] == pytest.approx(2 * size, rel=0.1)
    assert rows_of(snapshot(table, 1), MONDAY, TUESDAY) == [("1", 2), ("1", 2)]
    with pytest.raises(ValueError, match="version 2: 2 of 2 files are gone"):
        snapshot(table, 2).require_files()
    (pin,) = all_pins(table.parent)
    assert (pin.version, pin.who) == (1, "training")
    remove_pin(table.parent, pin)
    assert pruned(table)[EXAMPLES]["files"] == 2


def test_what_a_running_job_may_read_or_has_written_stays(table):
    written(table, WEDNESDAY, 3)
    assert pruned(table, hours=1) == {}
    snapshot(table, 0).require_files()


def test_an_old_day_goes_in_one_version_and_its_files_with_it(table):
    replaced(table, MONDAY + datetime.timedelta(days=40))
    today = MONDAY + datetime.timedelta(days=41)
    found = prune(SCHEMA, table.parent.parent, today=today, keep_days=7, grace_hours=0)[EXAMPLES]
    assert (found["days"], found["files"]) == (2, 8)
    assert len(snapshot(table).days) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b'{"version": "x"}', "cannot be read"),
        (
            b'{"version": 99, "who": "me", "since": "2025-01-01T00:00:00Z"}',
            "version 99; the newest",
        ),
    ],
)
def test_a_pin_that_cannot_be_read_stops_all_of_it(table, content, reason):
    pin = table.parent / FOLDER / EXAMPLES / "unknown.json"
    pin.parent.mkdir(parents=True, exist_ok=True)
    pin.write_bytes(content)
    with pytest.raises(ValueError, match=rf"pin .*unknown.json: {reason}"):
        pruned(table, keep_days=1)
    snapshot(table, 0).require_files()
    assert snapshot(table).version == 3


def test_a_version_whose_files_are_gone_cannot_be_pinned(table):
    pruned(table)
    with pytest.raises(ValueError, match=r"version 1: 2 of 2 files are gone, such as .*a vacuum"):
        put_pin(table.parent, snapshot(table, 1), "late", who="training")
    assert pins(table.parent, EXAMPLES) == []
    with pytest.raises(ValueError, match="version 99 cannot be opened"):
        snapshot(table, 99)


def test_a_candidate_goes_before_its_files_do(table):
    files = [written(table, WEDNESDAY, 3)]
    staged = Candidate(
        EXAMPLES, {WEDNESDAY: 0}, files, struct_of(), FileDescription("print"), {"job": "build"}
    )
    staged.put(table.parent, staged.days)
    assert candidates(table.parent, EXAMPLES) == [f"{WEDNESDAY}_{WEDNESDAY}"]
    assert pruned(table, hours=1) == {}
    found = pruned(table)[EXAMPLES]
    assert found["candidates"] == [f"{WEDNESDAY}_{WEDNESDAY}"]
    assert candidates(table.parent, EXAMPLES) == []
    assert (table.parent / CANDIDATES).name not in inventory(table.parent)
    assert not (table / files[0].path).exists()


def scattered(root, day, num_files):
    """A day of several files of two row groups each; returns what a reader of it sees."""
    files = []
    for number in range(num_files):
        description = FileDescription(
            "print", {day: datetime.datetime(2025, 2, 1, tzinfo=datetime.UTC)}
        )
        file = DayFile(root, f"{number:05d}", day, COLUMNS, description, row_group_rows=2)
        rows = {"id": [10 * number + n for n in range(3)], "who": ["w"] * 3}
        file.append(pa.table(rows, schema=COLUMNS), 7 * number + 1, number)
        files.append(file.finish())
    base = snapshot(root).numbers([day])
    commit(root, files, base, struct=struct_of(), metadata={"job": "build"})
    return read_by_groups(root, day)


def read_by_groups(root, day):
    found = snapshot(root)
    groups = []
    for path in found.files(day):
        with pq.ParquetFile(path, filesystem=found.filesystem) as file:
            numbers = range(file.num_row_groups)
            groups += [file.read_row_group(n).column("id").to_pylist() for n in numbers]
    return groups


def test_a_small_day_of_many_files_becomes_one_file_with_the_same_content_in_the_same_order(table):
    before = scattered(table, WEDNESDAY, 4)
    part = snapshot(table).partition(WEDNESDAY)
    number = snapshot(table).numbers([WEDNESDAY])[WEDNESDAY]
    assert pruned(table, hours=1)[EXAMPLES]["compacted_days"] == 1
    after = snapshot(table)
    assert len(after.files(WEDNESDAY)) == 1
    assert read_by_groups(table, WEDNESDAY) == before
    assert after.partition(WEDNESDAY) == part
    assert after.numbers([WEDNESDAY]) == {WEDNESDAY: number + 1}
    assert pruned(table, hours=1) == {}


def test_the_state_of_each_table_is_listed(table):
    thursday = MONDAY + datetime.timedelta(days=3)
    replaced(table, thursday, who="4", run="run-4", inputs={"a": 4})
    put_pin(table.parent, snapshot(table, 1), "2025-01-07", who="training")
    found = inventory(table.parent, today=datetime.date(2025, 1, 12))[EXAMPLES]
    assert (found["version"], found["versions"], found["files"], found["rows"]) == (4, 5, 3, 6)
    assert (found["first_day"], found["last_day"]) == (str(MONDAY), str(thursday))
    assert found["missing_days"] == [str(WEDNESDAY)]
    assert found["age_days"] == 3
    assert found["content_hash"] == snapshot(table).partition(thursday).content_hash
    last = found["last_commit"]
    assert (last["job"], last["run"], last["inputs"]) == ("4", "run-4", {"a": 4})
    assert found["pins"] == {"2025-01-07": 1}
    size = found["bytes"] / 3
    assert found["superseded_bytes"] == pytest.approx(4 * size, rel=0.1)
    # A vacuum is a commit too, and nobody's of ours.
    pruned(table)
    assert inventory(table.parent)[EXAMPLES]["last_commit"] == last
    assert inventory(table.parent)[EXAMPLES]["superseded_bytes"] == 0


def test_a_command_shows_the_tables_in_words_and_in_json(tmp_path, capsys):
    table = tmp_path / SCHEMA.name / EXAMPLES
    replaced(place(table), MONDAY, WEDNESDAY, who="build")
    assert main(["tables", f"--lake={tmp_path}", "--date=2025-01-12"]) == 0
    *words, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)["tables"]
    assert found == {SCHEMA.name: inventory(place(table).parent, today=datetime.date(2025, 1, 12))}
    assert words[0] == "synthetic:"
    assert "2025-01-06 to 2025-01-08, 1 missing, 4 days old" in words[2]
    assert main(["tables", f"--lake={tmp_path}", "--dataset=open-bandit"]) == 0
    assert capsys.readouterr().out.startswith("open-bandit: no table\n")
