"""From examples to a promoted artifact, with real processes on a small generated log."""

import dataclasses
import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.training.commands import run_command

from training.artifact.artifact import load
from training.artifact.manifest import ArtifactError, read_manifest
from training.artifact.reference import read_reference
from training.checkpoint.catalog import Checkpoints
from training.data.batches import batches
from training.data.dataset import ExampleTable

pytestmark = pytest.mark.distributed


@dataclasses.dataclass(frozen=True)
class Trained:
    root: Path
    cold: dict
    warm: dict
    artifact: Path
    decision: dict
    drill: dict

    @property
    def folders(self) -> list[str]:
        return folders(self.root)


def folders(root: Path) -> list[str]:
    names = {"checkpoints": "checkpoints", "tracking": "mlflow", "reports": "reports"}
    return [f"--{flag}={root / name}" for flag, name in names.items()]


@pytest.fixture(scope="module")
def trained(built, tmp_path_factory) -> Trained:
    """A cold run, a warm run, export and evaluation, on two ranks."""
    root = tmp_path_factory.mktemp("trained")
    shared = ["--dataset=synthetic", f"--lake={built.lake}"]
    recipe = "--recipe=wukong-tiny"
    first, second = (f"--date={day}" for day in built.days[-2:])
    cold = run_command("train", *shared, recipe, first, *folders(root))
    warm = run_command("train", *shared, recipe, second, *folders(root))
    artifacts = f"--artifacts={root / 'artifacts'}"
    tracking, reports = f"--tracking={root / 'mlflow'}", f"--reports={root / 'reports'}"
    checkpoints = f"--checkpoints={root / 'checkpoints'}"
    exported = run_command("export", *shared, second, checkpoints, artifacts, tracking)
    evaluate = ["evaluate", *shared, second, checkpoints, artifacts, tracking, reports]
    decision = run_command(*evaluate)
    drill = run_command(*evaluate, "--drill=spoilt")
    return Trained(root, cold, warm, Path(exported["artifact"]), decision, drill)


def test_a_table_is_really_split_by_columns_over_both_ranks(trained):
    pieces = [rank["item_id"] for rank in trained.warm["shards"]]
    assert [piece[0]["sharding_type"] for piece in pieces] == ["column_wise"] * 2
    assert sorted(piece[0]["offsets"] for piece in pieces) == [[0, 0], [0, 4]]
    assert [piece[0]["sizes"] for piece in pieces] == [[100_001, 4]] * 2


def test_the_second_day_starts_from_the_first_and_trains_on_the_new_day_only(trained, built):
    assert trained.cold["parent"] is None
    assert trained.cold["days"] == len(built.days) - 2
    assert trained.warm["parent"] == str(built.days[-2])
    assert trained.warm["days"] == 1
    assert trained.warm["trained_through"] == str(built.days[-2])


def test_a_run_notes_what_each_part_trains_by(trained):
    parts = trained.warm["parts"]
    assert {one["part"] for one in parts} == {"tokens", "layer 0", "layer 1", "head"}
    assert all(one["gradient"] > 0 and 0 < one["update"] < 1 for one in parts)
    page = (trained.root / "reports" / trained.warm["report"]).read_text()
    assert "layer 1" in page


def test_a_first_candidate_agrees_with_no_champion(trained):
    assert trained.decision["agreement"] is None


def test_training_learns_and_cannot_beat_the_true_probabilities(trained, built):
    assert trained.warm["metrics"]["ne"] < 0.99
    assert trained.decision["regret"] > 0


def test_running_a_day_again_gives_the_same_parent_and_the_same_version(trained, built):
    shared = ["--dataset=synthetic", f"--lake={built.lake}", f"--date={built.days[-1]}"]
    again = run_command("train", *shared, "--recipe=wukong-tiny", *trained.folders)
    assert again["parent"] == trained.warm["parent"]
    folders_ = [
        f"--artifacts={trained.root / 'artifacts'}",
        f"--tracking={trained.root / 'mlflow'}",
    ]
    checkpoints = f"--checkpoints={trained.root / 'checkpoints'}"
    exported = run_command("export", *shared, checkpoints, *folders_)
    assert exported["artifact"] == str(trained.artifact)


def test_the_gate_judges_on_days_that_were_not_trained_on_and_refuses_the_spoilt(trained, built):
    assert trained.decision["holdout"] == [str(built.days[-1])] * 2
    assert trained.decision["decision"] in {"promote", "hold"}
    assert trained.drill["decision"] == "refuse"
    assert trained.drill["drill"] == "spoilt candidate"
    kept = trained.root / "reports" / "synthetic" / "gate" / str(built.days[-1]) / "decision.json"
    assert json.loads(kept.read_text())["drill"] is None
    page = (trained.root / "reports" / trained.decision["report"]).read_text()
    assert "<svg" in page
    assert trained.decision["candidate"] in page


def test_an_overlap_of_training_and_holdout_is_refused(trained, built):
    from training.evaluation.evaluate import refuse_overlap

    artifact = load(trained.artifact, built.schema)
    with pytest.raises(
        ValueError, match=r"trained_through .*must be before the holdout's first day"
    ):
        refuse_overlap(artifact, [built.days[-2]])


def test_one_process_measures_exactly_what_two_ranks_did(trained, built, tmp_path):
    from training.artifact.export import export
    from training.artifact.quantized_tables import TablePrecision
    from training.data.dataset import user_groups
    from training.metrics import evaluate

    folders_ = (built.lake, trained.root / "checkpoints", tmp_path, str(built.days[-1]))
    manifest = export(built.schema, *folders_, tables=TablePrecision.FP32)
    artifact = load(tmp_path / built.schema.name / manifest.version, built.schema)
    examples = ExampleTable(built.lake, built.schema).read(built.days[-1:])

    found = evaluate(
        artifact.score(examples.inputs), examples.label, user_groups(examples, built.schema)
    )
    for name in ("rows", "log_loss", "ne", "auc", "gauc", "calibration"):
        assert getattr(found, name) == pytest.approx(trained.warm["metrics"][name], rel=1e-5), name


def test_the_gate_judges_the_tables_that_are_served_and_export_reports_the_others(trained, built):
    manifest = read_manifest(trained.artifact)
    costs = manifest.table_costs
    assert manifest.tables == "int8"
    assert (costs["days"], costs["is_unseen"]) == ([str(built.days[-1])] * 2, True)
    assert costs["int4"]["bytes"] < costs["int8"]["bytes"] < costs["fp32"]["bytes"] / 2
    assert costs["fp32"]["ne_change"] == 0
    assert len({costs[name]["ne"] for name in ("fp32", "int8", "int4")}) == 3
    assert abs(costs["int8"]["ne_change"]) < 1e-3
    assert trained.decision["metrics"]["ne"] == pytest.approx(costs["int8"]["ne"], rel=1e-7)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("truncate", "weights.safetensors"),
        ("flip", "weights.safetensors"),
        ("golden", "golden answer"),
        ("schema", "schema"),
        ("manifest", "manifest"),
    ],
)
def test_a_bad_artifact_does_not_load(trained, built, tmp_path, spoil, why):
    folder = tmp_path / "artifact"
    shutil.copytree(trained.artifact, folder)
    schema, weights = built.schema, folder / "weights.safetensors"
    if spoil == "truncate":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif spoil == "flip":
        content = bytearray(weights.read_bytes())
        content[-3] ^= 1
        weights.write_bytes(content)
    elif spoil == "golden":
        golden = pq.read_table(folder / "golden.parquet")
        place = golden.column_names.index("golden_score")
        wrong = golden.set_column(
            place,
            "golden_score",
            golden.column("golden_score").take(list(range(golden.num_rows))[::-1]),
        )
        pq.write_table(wrong, folder / "golden.parquet")
        manifest = json.loads((folder / "manifest.json").read_text())
        from training.artifact.aoti_runtime import sha256

        manifest["content_sha256"]["golden.parquet"] = sha256(folder / "golden.parquet")
        (folder / "manifest.json").write_text(json.dumps(manifest))
    elif spoil == "schema":
        schema = dataclasses.replace(schema, history_length=7)
    else:
        (folder / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=why):
        load(folder, schema)


def test_the_manifest_says_where_the_artifact_comes_from(trained, built):
    manifest = read_manifest(trained.artifact)
    assert manifest.parents == [str(built.days[-2])]
    assert manifest.schema_fingerprint == built.schema.fingerprint()
    assert manifest.trained_through == str(built.days[-2])


def test_the_artifact_carries_the_reference_of_what_was_learnt(trained, built):
    reference = read_reference(trained.artifact)
    assert reference.about["days"] == [str(built.days[0]), str(built.days[-2])]
    assert reference.about["scored_days"] == [str(built.days[-1])] * 2
    assert reference.about["schema_fingerprint"] == built.schema.fingerprint()


def test_a_checkpoint_with_an_input_that_is_gone_is_no_parent(trained, built):
    from training.recipes import recipe_of

    recipe = recipe_of("wukong-tiny")
    day = built.days[-1] + datetime.timedelta(days=1)
    asked = (recipe, day, day)
    assert Checkpoints(trained.root / "checkpoints", built.schema).parent_for(*asked) is not None
    other = dataclasses.replace(built.schema, time_context=("hour_of_day",))
    assert Checkpoints(trained.root / "checkpoints", other).parent_for(*asked) is None


def test_all_ranks_together_see_every_example_once(built):
    table = ExampleTable(built.lake, built.schema)
    options = {"batch_size": 96, "shuffle_rows": 1_500, "seed": 1}
    parts = [
        list(batches(table, built.days, rank=rank, world_size=3, **options)) for rank in range(3)
    ]
    assert len({len(part) for part in parts}) == 1
    weights = sum(float(batch.weight.sum()) for part in parts for batch in part) / 3
    assert weights == pytest.approx(len(parts[0]))
    rows = sum(int((batch.weight > 0).sum()) for part in parts for batch in part)
    assert rows == table.num_rows(built.days)
    whole = np.sort(table.read(built.days).inputs.dense[:, 0])
    seen = np.concatenate([b.dense[b.weight > 0, 0].numpy() for part in parts for b in part])
    np.testing.assert_array_equal(np.sort(seen), whole)


def test_a_day_without_examples_is_a_clear_error(tmp_path, built):
    error = run_command(
        "train",
        "--dataset=synthetic",
        f"--lake={tmp_path}",
        "--date=2025-01-05",
        *folders(tmp_path),
        code=1,
    )["error"]
    assert "run `python -m features examples`" in error


def test_the_registry_moves_aliases_and_refuses_unknown_versions(tmp_path, trained):
    from training.registry.aliases import CHAMPION
    from training.registry.mlflow_registry import Registry

    registry = Registry(trained.root / "mlflow", "synthetic")
    version = read_manifest(trained.artifact).version
    assert registry.alias(CHAMPION) is None
    registry.set_alias(CHAMPION, version)
    assert registry.alias(CHAMPION) == version
    registry.set_alias(CHAMPION, None)
    with pytest.raises(ValueError, match="not registered"):
        registry.set_alias(CHAMPION, "1999-01-01-00000000")


def test_retention_keeps_the_champion_however_old(trained, built, tmp_path):
    from training.registry.aliases import CHAMPION
    from training.registry.champions import prune
    from training.registry.mlflow_registry import Registry

    root = tmp_path / "kept"
    shutil.copytree(trained.root, root)
    registry = Registry(root / "mlflow", "synthetic")
    registry.set_alias(CHAMPION, read_manifest(trained.artifact).version)
    for number in range(3):  # later versions, none of them in use
        newer = root / "artifacts" / "synthetic" / f"2026-01-0{number + 1}-00000000"
        shutil.copytree(trained.artifact, newer)
    found = prune(built.schema, root / "checkpoints", root / "artifacts", root / "mlflow", keep=1)
    assert found["removed"]["artifacts"] == ["2026-01-01-00000000", "2026-01-02-00000000"]
    assert (root / "artifacts" / "synthetic" / trained.artifact.name).exists()
    assert found["removed"]["checkpoints"] == [str(built.days[-2])]


def test_a_training_that_is_done_before_mlflow_waits_for_its_run(tmp_path):
    import threading

    from training.trainer.trainer import _once_written

    file, written = tmp_path / "mlflow_run", tmp_path / "mlflow_run.part"
    written.write_text("a-run")
    writer = threading.Timer(0.2, written.rename, [file])
    writer.start()
    assert _once_written(file) == "a-run"
    writer.join()
