"""What a rank of a growth reads, and the record that it leaves."""

import datetime

import pyarrow as pa
import pytest
from support.training.manifests import SMALL, write

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.provenance.learnt import find_learnt
from features.schema.fingerprints import rows_fingerprint
from training.checkpoint.catalog import GROWN, Checkpoints
from training.checkpoint.learnt_days import EXAMPLES
from training.cli import rank_worker
from training.cli.rank_requests import GrowthRank
from training.data.dataset import ExampleTable
from training.model.grown_config import GrowthError
from training.recipes import recipe_of
from training.requests import UpscaleRequest
from training.upscale import probe

SCHEMA = schema_of("synthetic")
DAYS = [datetime.date(2025, 1, number) for number in range(1, 5)]
FIRST, PARENT = str(DAYS[1]), str(DAYS[2])
GREW = f"{PARENT}-wukong-tiny-x2"


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    """Two days' checkpoints, which lack their records, on examples of three days."""
    known = Checkpoints(tmp_path / "checkpoints", SCHEMA)
    for day in DAYS[:3]:
        examples_of(tmp_path, day)
    hashes = ExampleTable(tmp_path, SCHEMA).content_hashes
    write(known, FIRST, through=DAYS[0], partitions=hashes(DAYS[:1]), mlflow_run="1")
    fields = {"partitions": hashes(DAYS[1:2]), "mlflow_run": "2"}
    write(known, PARENT, through=DAYS[1], family=[FIRST], **fields)
    return known


def examples_of(lake, day):
    made = pa.table({"id": [1, 2], "of": [str(day)] * 2})
    replace_day(lake / SCHEMA.name / EXAMPLES, day, [made], fingerprint=rows_fingerprint(SCHEMA))


@pytest.fixture
def grow(tmp_path, checkpoints, monkeypatch):
    """A growth on one rank; it hands over the table that was read. Nothing is computed."""
    seen = []

    def upscale(schema, source, target, table, root, *, operator):
        seen.append(table)
        fields = {"growth": {"parent": source.name}, "role": GROWN, "mlflow_run": "2"}
        write(checkpoints, GREW, through=DAYS[1], family=[FIRST, PARENT], **fields)
        return {"name": GREW}

    def run(agreed) -> ExampleTable:
        monkeypatch.setattr(rank_worker, "agreed", agreed)
        where = {"lake": tmp_path, "checkpoints": tmp_path / "checkpoints"}
        asked = UpscaleRequest(dataset="synthetic", source=PARENT, target="2", **where)
        target = recipe_of(f"{SMALL}-x2")
        rank_worker._grow(GrowthRank(asked=asked, source=PARENT, target=target))
        return seen[0]

    monkeypatch.setattr(rank_worker, "upscale", upscale)
    return run


def test_a_rank_reads_the_version_of_the_examples_that_rank_0_has_found(tmp_path, grow):
    found = ExampleTable(tmp_path, SCHEMA).version
    examples_of(tmp_path, DAYS[3])
    assert ExampleTable(tmp_path, SCHEMA).version > found
    assert grow(lambda find: found).version == found


def test_what_grew_from_parents_without_a_record_has_learnt_all_that_they_have(tmp_path, grow):
    grow(lambda find: find())
    grown = find_learnt(tmp_path / SCHEMA.name, GREW)
    assert [(step.by, [*step.days]) for step in grown.steps] == [
        (FIRST, DAYS[:1]), (PARENT, DAYS[1:2]),
    ]  # fmt: skip


def test_a_probe_without_a_row_to_try_on_is_refused_in_words(tmp_path, checkpoints):
    parent, target = checkpoints.named(PARENT), recipe_of(f"{SMALL}-x2")
    table = ExampleTable(tmp_path, SCHEMA)
    with pytest.raises(GrowthError, match=f"no examples after {DAYS[1]}, the last day that"):
        probe.upscale_probed(SCHEMA, parent, target, table, checkpoints, days=[])


def test_a_failure_of_one_rank_in_a_probe_does_not_wait_for_the_others(
    tmp_path, checkpoints, monkeypatch
):
    waited = []

    def upscale(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(probe, "upscale", upscale)
    monkeypatch.setattr(probe, "_removed", waited.append)
    parent, target = checkpoints.named(PARENT), recipe_of(f"{SMALL}-x2")
    table = ExampleTable(tmp_path, SCHEMA)
    with pytest.raises(OSError, match="the disk is full"):
        probe.upscale_probed(SCHEMA, parent, target, table, checkpoints, days=DAYS[2:3])
    assert not waited
