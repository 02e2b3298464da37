"""A training names the version of the examples that it read, and can be run again on it."""

import datetime
import shutil

import pyarrow as pa
import pytest
from support.lake_rows import UNLEARNT
from support.training.commands import run_command

from features.lake.day_file import replace_day
from features.lake.pins import all_pins
from features.lake.snapshot import snapshot
from features.pipeline.retention import prune
from features.places import place
from features.provenance.learnt import all_learnt
from features.schema.fingerprints import rows_fingerprint
from training.artifact.manifest import read_manifest
from training.checkpoint.catalog import Checkpoints
from training.data.pinned import EXAMPLES
from training.registry.champions import release_pins

pytestmark = pytest.mark.distributed
NOTHING = datetime.timedelta(0)


@pytest.fixture
def lake(built, tmp_path):
    """A copy whose tables a test may replace."""
    return shutil.copytree(built.lake, tmp_path / "lake", ignore=UNLEARNT)


def halved(built, lake) -> int:
    """Replace the first day's examples by half of them; returns the version."""
    root, day = place(lake) / built.schema.name / EXAMPLES, built.days[0]
    rows = snapshot(root).read(day)
    half: pa.Table = rows.slice(0, len(rows) // 2)
    return replace_day(root, day, [half], fingerprint=rows_fingerprint(built.schema))


def hashes_of(root, days):
    parts = snapshot(root / EXAMPLES).partitions(days)
    return {day: part.content_hash for day, part in parts.items()}


def test_a_training_is_repeated_on_the_rows_that_it_read_though_they_were_replaced(
    built, lake, tmp_path
):
    root = place(lake) / built.schema.name
    version, day = snapshot(root / EXAMPLES).version, built.days[-1]

    def trained(name, *flags):
        folders = [f"--{kind}={tmp_path / name / kind}" for kind in ("checkpoints", "reports")]
        run = ["train", "--dataset=synthetic", f"--lake={lake}", f"--date={day}", "--ranks=1"]
        tracking = f"--tracking={tmp_path / 'mlflow'}"
        summary = run_command(*run, "--recipe=wukong-tiny", tracking, *folders, *flags)
        checkpoint = Checkpoints(tmp_path / name / "checkpoints", built.schema).named(str(day))
        assert summary["table_versions"] == checkpoint.manifest.table_versions
        return checkpoint.manifest

    first = trained("first")
    assert first.table_versions == {EXAMPLES: version}
    assert [pin.name for pin in all_pins(root)] == [f"{day}-v{version}"]
    (record,) = all_learnt(root)
    assert record.rows.items() | record.judged.items() == set(hashes_of(root, built.days).items())
    assert ([*record.judged], record.run) == ([day], first.mlflow_run)
    newer = halved(built, lake)
    prune(built.schema, lake, today=day, keep_days=400, grace_hours=0)
    second = trained("second")
    assert second.table_versions == {EXAMPLES: newer}
    assert second.examples < first.examples
    again = trained("again", f"--examples-version={version}")
    assert again.partitions == first.partitions
    tensors = [
        {name: digest for name, digest in one.files.items() if name != ".metadata"}
        for one in (first, second, again)
    ]
    assert tensors[0]
    assert tensors[2] == tensors[0] != tensors[1]

    export = ["export", "--dataset=synthetic", f"--lake={lake}", f"--date={day}"]
    shared = [f"--{kind}={tmp_path / 'again' / kind}" for kind in ("checkpoints", "artifacts")]
    exported = run_command(*export, *shared, f"--tracking={tmp_path / 'mlflow'}")
    assert read_manifest(place(exported["artifact"])).table_versions == {EXAMPLES: version}

    kept, artifacts = tmp_path / "again" / "checkpoints", tmp_path / "again" / "artifacts"
    assert release_pins(built.schema, kept, artifacts, place(lake)) == []
    released = release_pins(built.schema, kept, artifacts, place(lake), grace=NOTHING)
    assert released == [f"{day}-v{newer}"]
    # The artifact alone holds the version, too.
    shutil.rmtree(kept)
    assert release_pins(built.schema, kept, artifacts, place(lake), grace=NOTHING) == []
    shutil.rmtree(artifacts)
    released = release_pins(built.schema, kept, artifacts, place(lake), grace=NOTHING)
    assert released == [f"{day}-v{version}"]


def test_a_version_whose_rows_are_gone_is_named(built, lake, tmp_path):
    version = snapshot(place(lake) / built.schema.name / EXAMPLES).version
    halved(built, lake)
    prune(built.schema, lake, today=built.days[-1], keep_days=400, grace_hours=0)
    folders = [f"--{kind}={tmp_path / kind}" for kind in ("checkpoints", "reports")]
    run = ["train", "--dataset=synthetic", f"--lake={lake}", f"--date={built.days[-1]}"]
    shared = ["--recipe=wukong-tiny", f"--tracking={tmp_path / 'mlflow'}", *folders]
    failed = run_command(*run, *shared, f"--examples-version={version}", code=1)
    assert f"examples: version {version}: 1 of 6 files are gone" in failed["error"]
    assert all_pins(place(lake) / built.schema.name) == []
    assert all_learnt(place(lake) / built.schema.name) == [], "it has failed"
