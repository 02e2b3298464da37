"""Records of what checkpoints have learnt: written when a training is done, read by the next."""

import datetime
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pytest
from support.training.manifests import SMALL, write

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.lake.snapshot import snapshot
from features.provenance.learnt import all_learnt, find_learnt, learnt_days, unlearnt_days
from features.schema.fingerprints import rows_fingerprint
from training.checkpoint.catalog import GROWN, IMMATURE, Checkpoints, prune
from training.checkpoint.learnt_days import EXAMPLES, IMMATURE_EXAMPLES, complete_records
from training.cli.commands import COMMANDS
from training.cli.registry_requests import PruneRequest
from training.data.dataset import ExampleTable
from training.recipes import recipe_of
from training.registry import champions
from training.registry.champions import release_records
from training.trainer.descent import alerts_of, note_learnt, parent_of

SCHEMA = schema_of("synthetic")
DAYS = [datetime.date(2025, 1, number) for number in range(1, 9)]
ONE_DAY = datetime.timedelta(days=1)


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", SCHEMA)


@pytest.fixture
def lake(tmp_path):
    """Examples of all days."""
    root = tmp_path / "lake" / SCHEMA.name
    for day in DAYS:
        make(root, day, rows=1)
    return root


def make(lake, day, *, rows, table=EXAMPLES):
    made = pa.table({"id": list(range(rows)), "of": [str(day)] * rows})
    return replace_day(lake / table, day, [made], fingerprint=rows_fingerprint(SCHEMA))


def examples(lake):
    return ExampleTable(lake.parent, SCHEMA)


def train(lake, checkpoints, number, *, parent=None, days=None, is_killed=False):
    """A day's training that learns the day before, and is judged on its own."""
    day, table = DAYS[number], examples(lake)
    before = checkpoints.named(parent) if parent else None
    learnt = [day - ONE_DAY] if days is None else days
    shutil.rmtree(checkpoints.root / str(day), ignore_errors=True)
    write(
        checkpoints,
        str(day),
        through=day - ONE_DAY,
        family=[*before.manifest.family, before.name] if before else [],
        partitions=table.content_hashes(learnt),
        judged=table.content_hashes([day]),
        table_versions={EXAMPLES: table.version},
        mlflow_run=f"{day} of version {table.version}",
    )
    if not is_killed:
        note_learnt(table, checkpoints.named(str(day)))
    return str(day)


def parent(lake, checkpoints, number):
    """What a day's training goes on from, and which days that has learnt otherwise."""
    day = DAYS[number]
    asked = {"parent": None, "changed_since": None, "recipe": recipe_of(SMALL)}
    run = SimpleNamespace(run_day=day, through=day - ONE_DAY, **asked)
    found, rebuilt = parent_of(run, examples(lake), checkpoints)
    return found.name, rebuilt


def test_a_record_has_the_days_of_the_whole_line_each_with_who_learnt_it(lake, checkpoints):
    first = train(lake, checkpoints, 3, days=DAYS[:3])
    second = train(lake, checkpoints, 4, parent=first)
    shutil.rmtree(checkpoints.root / first)
    one = find_learnt(lake, second)
    assert [(step.by, step.parent, [*step.days]) for step in one.steps] == [
        (first, None, DAYS[:3]), (second, first, [DAYS[3]]),
    ]  # fmt: skip
    assert [*one.judged] == [DAYS[4]]
    assert {step.version for step in one.steps} == {examples(lake).version}
    parts = snapshot(lake / EXAMPLES).partitions(DAYS[:5])
    assert {**one.rows, **one.judged} == {day: part.content_hash for day, part in parts.items()}


def test_a_checkpoint_that_was_killed_before_its_record_gets_it_from_the_next_run(
    lake, checkpoints
):
    first = train(lake, checkpoints, 3, days=DAYS[:3], is_killed=True)
    train(lake, checkpoints, 4, parent=first, is_killed=True)
    assert learnt_days(lake) == {}
    parent(lake, checkpoints, 5)
    assert learnt_days(lake) == dict.fromkeys(DAYS[:5], str(DAYS[4]))
    assert complete_records(lake, checkpoints) == []
    # One that was trained again is another one.
    make(lake, DAYS[3], rows=2)
    again = train(lake, checkpoints, 4, parent=first, is_killed=True)
    assert complete_records(lake, checkpoints) == [again]
    assert unlearnt_days(lake, DAYS[:5]) == []


def test_what_grew_has_learnt_what_its_parent_has(lake, checkpoints):
    first = train(lake, checkpoints, 3, days=DAYS[:3])
    of = checkpoints.named(first).manifest
    fields = {"partitions": of.partitions, "growth": {"parent": first}, "role": GROWN}
    write(checkpoints, f"{first}-grown-x", through=DAYS[2], family=[first], **fields)
    complete_records(lake, checkpoints)
    assert find_learnt(lake, f"{first}-grown-x").steps == find_learnt(lake, first).steps


def test_rows_that_are_not_final_are_no_learnt_days_of_examples(lake, checkpoints):
    first = train(lake, checkpoints, 3, days=DAYS[:3])
    make(lake, DAYS[3], rows=1, table=IMMATURE_EXAMPLES)
    name, hashes = f"{first}-immature-x", {str(DAYS[3]): "f00d"}
    fields = {"partitions": hashes, "role": IMMATURE}
    write(checkpoints, name, through=DAYS[2], family=[first], **fields)
    complete_records(lake, checkpoints)
    one = find_learnt(lake, name)
    assert (one.steps[-1].table, [*one.rows]) == (IMMATURE_EXAMPLES, DAYS[:3])


def test_the_record_goes_with_the_last_of_its_ranker(lake, checkpoints, tmp_path):
    first = train(lake, checkpoints, 3, days=DAYS[:3])
    second = train(lake, checkpoints, 4, parent=first)
    places = (checkpoints.root.parent, tmp_path / "artifacts", lake.parent)
    assert release_records(SCHEMA, *places) == []
    shutil.rmtree(checkpoints.root / first)
    assert release_records(SCHEMA, *places) == [first]
    assert [one.checkpoint for one in all_learnt(lake)] == [second]


def test_a_checkpoint_without_a_record_is_recorded_before_it_goes(
    lake, checkpoints, tmp_path, monkeypatch
):
    """Else nobody knew what those after it have learnt by it."""
    first = train(lake, checkpoints, 3, days=DAYS[:3], is_killed=True)
    train(lake, checkpoints, 4, parent=first, is_killed=True)

    def without_registry(schema, root, *_, keep, **__):
        return {"gone": prune(root / schema.name, keep=keep, in_use=())}

    monkeypatch.setattr(champions, "prune", without_registry)
    places = {name: tmp_path / name for name in ("lake", "checkpoints", "artifacts", "tracking")}
    found = COMMANDS["prune"](PruneRequest(dataset=SCHEMA.name, keep=1, **places))
    assert (found["gone"], found["records"]) == ([first], [first])
    assert unlearnt_days(lake, DAYS[:5]) == []


def test_a_day_goes_on_from_old_rows_while_nobody_has_learnt_the_new_ones_and_says_so(
    lake, checkpoints
):
    first = train(lake, checkpoints, 3, days=DAYS[:3])
    second = train(lake, checkpoints, 4, parent=first)
    third = train(lake, checkpoints, 5, parent=second)
    assert parent(lake, checkpoints, 6) == (third, [])
    for day in DAYS[3:5]:
        make(lake, day, rows=2)
    assert parent(lake, checkpoints, 6) == (third, DAYS[3:5])
    (alert,) = alerts_of(third, DAYS[3:5])
    assert alert["alert"] == "rebuilt-not-retrained"
    assert f"{third} has learnt 2 days, {DAYS[3]} to {DAYS[4]}" in alert["what"]
    assert alerts_of(third, []) == []
    # The training after the backfill; the day of `third` that was made again is only judged there.
    again = train(lake, checkpoints, 4, parent=first)
    assert parent(lake, checkpoints, 6) == (again, [])
    fourth = train(lake, checkpoints, 6, parent=again, days=DAYS[4:6])
    assert parent(lake, checkpoints, 7) == (fourth, [])


def test_a_checkpoint_of_before_the_change_is_not_gone_back_to(lake, checkpoints):
    """Nobody has asked to learn so many days again."""
    first = train(lake, checkpoints, 3, days=DAYS[:3])
    second = train(lake, checkpoints, 4, parent=first)
    make(lake, DAYS[3], rows=2)
    assert parent(lake, checkpoints, 5) == (second, [DAYS[3]])
