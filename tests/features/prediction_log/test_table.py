"""Several processes append to one log, and it is tidied while they do."""

import concurrent.futures
import dataclasses
import datetime
import multiprocessing
import threading

import deltalake
import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError
from support.serving import stand_ins

from features.places import place, uri
from features.prediction_log import table as log_table
from features.prediction_log.columns import HOUR, arrow_schema
from features.prediction_log.table import LogTable, table_root, tidy
from features.schema import DAY, Column, Dtype, Kind

SCHEMA = stand_ins.SCHEMA
NOON = stand_ins.NOON
EACH = 12


def rows(*names, at=NOON, schema=SCHEMA):
    """A row for each answer; only what the test reads is there."""
    columns = arrow_schema(schema)
    fields = [*columns, pa.field(DAY, pa.date32()), pa.field(HOUR, pa.int32())]
    values = {"answer_id": names, DAY: [at.date()] * len(names), HOUR: [at.hour] * len(names)}
    arrays = [pa.array(values.get(field.name, [None] * len(names)), field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def opened(folder, schema=SCHEMA):
    table = LogTable(folder, schema)
    table.open()
    return table


def append_some(folder, writer):
    """What one process does."""
    table = opened(place(folder))
    for number in range(EACH):
        table.append(rows(f"{writer}-{number}"), metadata={})


def answers(folder, name=SCHEMA.name):
    table = deltalake.DeltaTable(uri(table_root(folder, name)))
    return sorted(table.to_pyarrow_table(columns=["answer_id"])["answer_id"].to_pylist())


def files(folder):
    return deltalake.DeltaTable(uri(table_root(folder, SCHEMA.name))).file_uris()


@pytest.mark.process
def test_processes_that_append_at_once_lose_nothing(tmp_path):
    """They also make the table together, and one tidies it meanwhile."""
    processes = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=processes) as pool:
        ended = [pool.submit(append_some, str(tmp_path), writer) for writer in ("one", "two")]
        opened(place(tmp_path))
        while not all(one.done() for one in ended):
            tidy(
                table_root(place(tmp_path), SCHEMA.name),
                until=NOON.date(),
                keep_days=1,
                grace_hours=1,
            )
        for one in ended:
            one.result()
    expected = [f"{writer}-{number}" for writer in ("one", "two") for number in range(EACH)]
    assert answers(place(tmp_path)) == sorted(expected)


def test_writers_on_any_place_lose_nothing(anywhere):
    """Two at once, each with a table of its own: on S3 the commit is a conditional write."""
    together = threading.Barrier(2)

    def write(writer):
        table = opened(anywhere)
        together.wait(60)
        for number in range(3):
            table.append(rows(f"{writer}-{number}"), metadata={})

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("one", "two")))
    assert answers(anywhere) == sorted(f"{w}-{n}" for w in ("one", "two") for n in range(3))


def test_finished_hours_become_one_file_each_and_old_days_go(tmp_path):
    folder, hour = place(tmp_path), datetime.timedelta(hours=1)
    table, day = opened(folder), datetime.timedelta(days=1)
    moments = [NOON - 2 * day, NOON - day, NOON - day, NOON - day + hour, NOON, NOON]
    for number, at in enumerate(moments):
        table.append(rows(f"{number}", at=at), metadata={})
    root = table.root
    done = tidy(root, until=(NOON - day).date(), keep_days=1, grace_hours=0)
    assert (done.expired_files, done.merged_files, done.into_files) == (1, 2, 1)
    assert answers(folder) == ["1", "2", "3", "4", "5"]
    assert len(files(folder)) == 4, "of the day that is not over, two"
    assert done.deleted.num_files == 3
    on_disk = [path for path in root.rglob("*.parquet") if "_delta_log" not in path.parts]
    assert len(on_disk) == 4
    again = tidy(root, until=(NOON - day).date(), keep_days=1, grace_hours=0)
    assert again == (0, 0, 0, (0, 0))


def test_a_log_without_a_table_has_nothing_to_tidy(tmp_path):
    root = table_root(place(tmp_path), "nobody")
    assert tidy(root, until=NOON.date(), keep_days=1, grace_hours=0) is None


def test_columns_of_a_schema_that_has_grown_are_added_while_others_write_without(tmp_path):
    folder = place(tmp_path)
    before = opened(folder)
    before.append(rows("old"), metadata={})
    more = Column(name="hour_angle", dtype=Dtype.FLOAT64, kind=Kind.DENSE, doc="More.")
    grown = dataclasses.replace(SCHEMA, context=(*SCHEMA.context, more))
    opened(folder, grown).append(rows("new", schema=grown), metadata={})
    before.append(rows("late"), metadata={})
    assert answers(folder) == ["late", "new", "old"]
    table = deltalake.DeltaTable(uri(before.root)).to_pyarrow_table()
    assert "hour_angle" in table.column_names


def test_a_writer_whose_version_is_gone_from_the_log_of_commits_goes_on(tmp_path, monkeypatch):
    """It wrote nothing for longer than commits are kept, and others did."""
    properties = {"delta.logRetentionDuration": "interval 0 days", "delta.checkpointInterval": "2"}
    monkeypatch.setattr(log_table, "_PROPERTIES", properties)
    folder = place(tmp_path)
    idle, busy = opened(folder), opened(folder)
    for number in range(4):
        busy.append(rows(f"busy-{number}"), metadata={})
    assert not (busy.root / "_delta_log" / f"{0:020}.json").exists()
    for number in range(2):
        idle.append(rows(f"idle-{number}"), metadata={"answers": 1})
    expected = [*(f"busy-{number}" for number in range(4)), "idle-0", "idle-1"]
    assert answers(folder) == expected
    (last,) = deltalake.DeltaTable(uri(idle.root)).history(1)
    assert last["answers"] == 1


def test_a_commit_that_counted_before_its_error_is_not_made_twice(tmp_path, monkeypatch):
    """Such as one after which a checkpoint could not be written."""
    table, write = opened(place(tmp_path)), log_table.write_deltalake

    def fails_afterwards(*args, **options):
        write(*args, **options)
        raise DeltaError("no checkpoint")

    monkeypatch.setattr(log_table, "write_deltalake", fails_afterwards)
    assert table.append(rows("one"), metadata={}) == 1
    assert answers(place(tmp_path)) == ["one"]


def test_a_column_of_another_type_is_refused_before_anything_is_written(tmp_path):
    folder = place(tmp_path)
    opened(folder)
    price = dataclasses.replace(SCHEMA.context[1], dtype=Dtype.INT64)
    other = dataclasses.replace(SCHEMA, context=(SCHEMA.context[0], price, SCHEMA.context[2]))
    message = "column price: int64; the log has it as double: name another RANKING_LOG_FOLDER"
    with pytest.raises(ValueError, match=message):
        opened(folder, other)


def test_a_place_that_cannot_be_made_names_its_setting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="RANKING_LOG_FOLDER"):
        opened(place(tmp_path / "file"))
