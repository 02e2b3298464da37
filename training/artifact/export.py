"""From a sharded checkpoint to an artifact that a server can load."""

import dataclasses
import datetime
import logging
from collections.abc import Sequence

from features.places import Place
from features.schema import Schema
from training.artifact.aoti_cache import Compile, NativeCode, ensure
from training.artifact.aoti_runtime import NativeError
from training.artifact.artifact import GOLDEN_ROWS, write
from training.artifact.manifest import Manifest, read_manifest
from training.artifact.quantized_tables import TablePrecision
from training.artifact.reference import REFERENCE, make_reference
from training.artifact.scorer import Scorer
from training.checkpoint.catalog import Checkpoint, Checkpoints, Growth
from training.checkpoint.tensors import load_whole
from training.config.model import model_from_dict
from training.data.dataset import ExampleTable
from training.metrics import entropy, log_losses
from training.model.inputs import inputs_of
from training.model.ranker import Ranker

logger = logging.getLogger(__name__)

SECONDS_TO_COMPILE = 600.0


def export(
    schema: Schema,
    lake: Place,
    checkpoints: Place,
    artifacts: Place,
    name: str,
    *,
    tables: TablePrecision = TablePrecision.INT8,
) -> Manifest:
    """Write the artifact of a checkpoint; its golden request is its day's newest examples.

    What each precision of the tables would cost is measured on the days that it has not trained on,
    or on its day where it has trained on all of them, and kept in the manifest. How inputs, scores
    and labels are distributed goes along as the reference, with which later days are compared.
    """
    known = Checkpoints(checkpoints, schema)
    checkpoint = known.named(name)
    manifest = checkpoint.manifest
    day = datetime.date.fromisoformat(manifest.run_day)
    if manifest.schema_fingerprint != schema.fingerprint():
        raise ValueError(
            f"checkpoint {checkpoint.name}: schema {manifest.schema_fingerprint}; expected that of "
            f"{schema.name}, {schema.fingerprint()}"
        )
    served = model_from_dict(manifest.recipe["model"]).served()
    ranker = Ranker(inputs_of(schema), served)
    load_whole(checkpoint.tensors, ranker)
    table = ExampleTable(lake, schema)
    days = [d for d in table.days(datetime.date.min, day) if table.num_rows([d])]
    golden = table.read(days[-1:]).table
    through = datetime.date.fromisoformat(manifest.trained_through)
    unseen = [d for d in days if d > through]
    reference = make_reference(
        schema,
        table,
        learnt=[d for d in days if d <= through],
        held_out=unseen,
        score=Scorer.of(ranker.eval(), tables).score,
    )
    return write(
        artifacts,
        ranker,
        schema,
        golden.slice(max(0, golden.num_rows - GOLDEN_ROWS)),
        more_files={REFERENCE: reference.to_bytes()},
        tables=tables.value,
        table_costs=table_costs(ranker, table, unseen or days[-1:], is_unseen=bool(unseen)),
        day=manifest.run_day,
        trained_through=manifest.trained_through,
        recipe=manifest.recipe["name"],
        config={**manifest.recipe, "model": dataclasses.asdict(served)},
        parents=[*manifest.family],
        metrics=manifest.metrics,
        mlflow_run=manifest.mlflow_run,
        checkpoint=checkpoint.name,
        role=manifest.role,
        table_versions=manifest.table_versions,
        growth=_growth(known, checkpoint),
    )


def compiled(native: NativeCode, schema: Schema, directory: Place) -> str:
    """Compile an artifact's dense part here, where it is not yet; the key, or why there is none."""
    if native.mode is Compile.OFF:
        return Compile.OFF.value
    config = model_from_dict(read_manifest(directory).config["model"])
    inputs = inputs_of(schema)
    try:
        return ensure(
            native, directory, inputs=inputs, config=config, seconds=SECONDS_TO_COMPILE
        ).name
    except NativeError as error:
        logger.warning("artifact %s: no native code: %s", directory.name, error)
        if native.mode is Compile.REQUIRED:
            raise
        return str(error)


def table_costs(
    ranker: Ranker, table: ExampleTable, days: Sequence[datetime.date], *, is_unseen: bool
) -> dict[str, object]:
    """Bytes of the tables in each precision, and the NE of some days with them.

    Args:
        ranker: Unsharded, with its trained weights.
        table: The examples.
        days: Whose examples are scored.
        is_unseen: Whether the ranker has not trained on them.
    """
    examples = table.read_judged(days)
    if not len(examples.label):
        # So few rows that chance has left none to judge.
        examples = table.read(days)
    rate = float(examples.label.mean())
    base = entropy(rate) if 0 < rate < 1 else None
    costs: dict[str, dict[str, float | int | None]] = {}
    exact = 0.0
    for precision in TablePrecision:
        scorer = Scorer.of(ranker.eval(), precision)
        loss = float(log_losses(scorer.score(examples.inputs), examples.label).mean())
        exact = exact or loss
        costs[precision.value] = {
            "bytes": scorer.tables.num_bytes,
            "ne": loss / base if base else None,
            "ne_change": loss / exact - 1,
        }
    span = [day.isoformat() for day in (days[0], days[-1])]
    return {"days": span, "is_unseen": is_unseen, "rows": len(examples), **costs}


def _growth(known: Checkpoints, checkpoint: Checkpoint) -> Growth | None:
    """How a checkpoint grew, or the one that it was trained from."""
    parent = known.find(checkpoint.manifest.parent) if checkpoint.manifest.parent else None
    return checkpoint.manifest.growth or (parent.manifest.growth if parent else None)
