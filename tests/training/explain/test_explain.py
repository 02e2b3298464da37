"""The way back from an answer, on a small log, artifact, line of checkpoints and lake by hand."""

import dataclasses
import datetime
import hashlib

import numpy as np
import pyarrow as pa
import pytest
from support.features.answered import (
    AT,
    DAILY,
    ITEM,
    LANDED,
    MIDNIGHT,
    NOON,
    ONE_DAY,
    SCHEMA,
    STATE,
    USER,
    YESTERDAY,
    answer_id,
    log,
    written,
)
from support.lake_rows import put

from features.erasure.rows import without_rows
from features.lake import lake as lake_tables
from features.lake.commit import remove
from features.lake.compact import compact
from features.lake.snapshot import snapshot
from features.places import place
from features.provenance import learnt
from features.provenance.learnt import remove_learnt
from training.artifact.manifest import MANIFEST
from training.checkpoint import learnt_days
from training.cli.commands import COMMANDS
from training.explain import sources
from training.explain.explain import explain


@pytest.fixture
def folders(tmp_path):
    """Everything behind an answer."""
    return written(place(tmp_path))


def way(folders, **asked):
    return explain(SCHEMA, folders, answer_id(), **{"item": "", "most": 20, **asked})


def test_the_answer_is_that_of_the_caller_by_rank(folders):
    found = way(folders)["answer"]
    assert (found["model_version"], found["num_candidates"]) == ("v2", 2)
    shown = [(one["sent_item_id"], one["rank"], one["score"]) for one in found["candidates"]]
    assert shown == [("a", 1, 0.5), ("b", 2, 0.25)]


def test_a_version_names_its_line_and_what_became_of_the_days_that_it_learnt(folders):
    found = way(folders)["version"]
    assert (found["is_there"], found["recipe"]) == (True, "wukong-tiny")
    gone, middle, own = found["checkpoints"]
    assert (gone["name"], gone["is_there"]) == ("2025-06-01", False)
    assert [(day["day"], day["now"]) for day in gone["days"]] == [("2025-05-30", "gone")]
    assert (middle["name"], middle["parent"], middle["table_version"]) == (
        "2025-06-12", "2025-06-01", None,
    )  # fmt: skip
    assert [(day["day"], day["now"]) for day in own["days"]] == [
        ("2025-06-01", "same"), ("2025-06-02", "replaced"), ("2025-06-03", "gone"),
    ]  # fmt: skip
    assert (own["table_version"], own["is_version_readable"]) == (2, True)


def test_without_a_record_the_days_are_those_of_the_checkpoint(folders):
    remove_learnt(folders.lake / SCHEMA.name, "2025-06-13")
    found = way(folders)
    gone, middle, own = found["version"]["checkpoints"]
    assert [(day["day"], day["now"]) for day in own["days"]] == [
        ("2025-06-01", "same"), ("2025-06-02", "replaced"), ("2025-06-03", "gone"),
    ]  # fmt: skip
    assert (own["table_version"], own["is_version_readable"]) == (2, True)
    assert (gone["days"], middle["days"]) == ([], [])


def test_a_row_that_was_read_names_the_partition_that_has_it_and_who_made_that(folders):
    state, daily, attributes = way(folders)["rows_read"]
    assert (state["table"], state["key_value"], state["day"]) == (STATE.name, 3, str(YESTERDAY))
    assert state["commit"]["job"] == "build"
    assert daily["values"]["item_impressions_7d"] == 2
    assert (daily["differs"], daily["commit"]["run"]) == ([], "r2")
    found = snapshot(folders.lake / SCHEMA.name / DAILY).partition(YESTERDAY)
    assert daily["content_hash"] == found.content_hash
    assert (attributes["day"], attributes["note"]) == (None, "the store had no row")


def test_who_has_made_rows_is_known_after_files_were_joined_and_a_user_was_erased(folders):
    root = folders.lake / SCHEMA.name / DAILY
    compact(root, [YESTERDAY], metadata={"job": "prune"})
    users = OfItem("b")
    said = {"hash_sums_of": lambda tables: [(0, 0)] * len(tables), "metadata": {"job": "forget"}}
    without_rows(snapshot(root), [YESTERDAY], users, **said)
    found = way(folders)
    _, daily, _ = found["rows_read"]
    assert (daily["commit"]["job"], daily["commit"]["run"]) == ("build", "r2")
    joined, erased = daily["commit"]["rewritten"]
    assert joined.startswith("files joined by prune at 20")
    assert erased.startswith("a user erased by forget at 20")
    assert f"build of r2; {joined}; {erased}" in " ".join(found["markdown"].split())


class OfItem:
    """Rows of an item go."""

    def __init__(self, item):
        self.item = item

    def columns(self, names):
        return [ITEM]

    def mask(self, rows):
        return np.array([one == self.item for one in rows.column(ITEM).to_pylist()])

    def named_in(self, rows):
        return {}


def test_another_item_has_rows_of_its_own_and_they_may_differ_by_now(folders):
    _, daily, _ = way(folders, item="b")["rows_read"]
    assert (daily["key_value"], daily["differs"]) == ("b", ["item_impressions_7d"])
    assert daily["note"] == "the partition was made again since"


def test_impressions_behind_the_rows_say_where_they_landed_and_what_became_of_them(folders):
    user, item = way(folders)["sources"]
    assert (user["role"], user["key_value"], item["key_value"]) == ("user", 3, "a")
    by_id = {one["example_id"]: one for one in user["rows"]}
    states = {number: one["state"] for number, one in by_id.items()}
    assert states == {1: "counted", 2: "held", 3: "readmitted", 4: "not counted"}
    assert by_id[2]["rules"] == ["device:vocabulary"]
    assert by_id[3]["rules"] == ["price:range"]
    assert by_id[3]["change"].startswith("map.yaml@12ab at 2025-06-15 12:00")
    assert (by_id[1]["file"], by_id[1]["line"]) == (f"impressions/{YESTERDAY}.csv", 2)
    assert (user["num_counted"], user["num_held"], user["num_readmitted"]) == (2, 1, 1)
    assert {one["example_id"] for one in item["rows"]} == {1, 3, 5}
    (file,) = user["files"]
    assert (file["sha256"], file["num_bytes"]) == (hashlib.sha256(LANDED).hexdigest(), len(LANDED))
    commit = user["commits"][str(YESTERDAY)]
    assert (commit["job"], commit["run"], commit["inputs"]) == ("ingest", "r1", {"topic": 3})
    assert len(user["gone"]) == 6, "days of the window before the first that the lake has"


def test_the_list_is_bounded_and_what_is_unusual_comes_first(folders):
    user, _ = way(folders, most=2)["sources"]
    assert "counted" not in {one["state"] for one in user["rows"]}
    assert (len(user["rows"]), user["num_counted"]) == (2, 2)


def test_what_is_gone_is_said_to_be_gone(folders):
    lake = folders.lake / SCHEMA.name
    (folders.artifacts / SCHEMA.name / "v2" / MANIFEST).unlink()
    (folders.landing / SCHEMA.name / "impressions" / f"{YESTERDAY}.csv").unlink()
    remove(lake / DAILY, [YESTERDAY], metadata={})
    put(
        lake / DAILY,
        NOON.date() + 2 * ONE_DAY,
        pa.table({ITEM: ["z"], "event_timestamp": pa.array([MIDNIGHT], AT)}),
    )
    found = way(folders)
    assert found["version"]["is_there"] is False
    assert found["rows_read"][1]["note"].startswith("gone by retention: the table begins with")
    user, *others = found["sources"]
    assert others == [], "no row of the item is left in a partition"
    assert user["files"] == [
        {"name": f"impressions/{YESTERDAY}.csv", "is_there": False, "num_bytes": 0, "sha256": "",
         "is_newer": None},
    ]  # fmt: skip
    assert "gone by retention" in found["markdown"]


def test_a_row_that_no_partition_has_was_pushed(folders, tmp_path):
    moment = NOON - datetime.timedelta(hours=1)
    pushed = having_read(folders, tmp_path, **{STATE.timestamp_column: moment})
    state = way(pushed)["rows_read"][0]
    assert (state["day"], state["note"].partition(":")[0]) == (None, "in no partition")


def having_read(folders, tmp_path, **changed):
    """The same with an answer that read otherwise."""
    other = place(tmp_path) / "other-log"
    log(other, **changed)
    return dataclasses.replace(folders, log=other)


def test_a_hashed_user_is_found_by_the_row_alone(folders, tmp_path):
    hashed = having_read(folders, tmp_path, **{USER: None, "hash_key_id": "k"})
    found = way(hashed)
    assert found["rows_read"][0]["day"] == str(YESTERDAY), "by its values"
    assert [one["role"] for one in found["sources"]] == ["item"]
    assert "user's id is hashed" in found["markdown"]


@pytest.mark.parametrize(
    ("asked", "item", "said"),
    [
        (answer_id(), "z", "item z: not in answer"),
        (answer_id(NOON - 90 * ONE_DAY), "", "of 2025-03-17, which is gone from the log"),
        (answer_id(NOON + ONE_DAY), "", "not in the log: it was not chosen, or never given"),
        ("by-hand", "", "not in the log"),
    ],
)
def test_what_is_not_in_the_log_is_named(folders, asked, item, said):
    with pytest.raises(ValueError, match=said):
        explain(SCHEMA, folders, asked, item=item, most=5)


def test_without_a_log_the_variable_is_named(folders, tmp_path):
    (place(tmp_path) / "log").rename(tmp_path / "away")
    with pytest.raises(ValueError, match="RANKING_LOG_FOLDER"):
        way(folders)


def test_the_words_show_the_whole_way(folders):
    words = way(folders)["markdown"]
    landed = f"impressions/{YESTERDAY}.csv:2"
    was_learnt, held = "1 gone, 1 replaced, 1 same", "device:vocabulary"
    read, changed = "item_impressions_7d=2", "map.yaml@12ab"
    for part in ("champion", "wukong-tiny", was_learnt, held, changed, landed, read):
        assert part in words, f"{part}\n{words}"


def test_tables_have_the_names_that_the_lake_gives_them():
    """They are written out again, for the lake's own module imports Spark."""
    assert (sources.RAW, sources.COUNTED) == (lake_tables.IMPRESSIONS_RAW, lake_tables.IMPRESSIONS)
    assert f"{lake_tables.QUARANTINE}_{lake_tables.IMPRESSIONS}" == sources.HELD
    assert sources.READMITTED == lake_tables.READMITTED
    assert learnt_days.IMMATURE_EXAMPLES == lake_tables.IMMATURE_EXAMPLES
    assert learnt.EXAMPLES == lake_tables.EXAMPLES


def test_it_is_a_command():
    assert "explain" in COMMANDS
