"""The reference of an artifact: how inputs, labels and scores were distributed when it was made.

Later days are compared with it (``training.monitoring``). It is made of the newest days that were
learnt; its scores and labels are of the days held out, on which the ranker is judged. A server
neither reads nor needs it.
"""

import datetime
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding.encode import ModelInputs
from features.labels.judged import judged_rows
from features.places import Place
from features.schema import Schema
from training.artifact.manifest import ArtifactError, read_manifest
from training.data.dataset import ExampleTable
from training.data.examples import encode_examples
from training.data.profile import Profile, Rows, profile_rows
from training.data.sampled_rows import sampled_rows

REFERENCE = "reference.parquet"
MOST_ROWS, MOST_DAYS = 50_000, 7
"""Of the learnt examples: a week, so that each day of the week is in it."""
MOST_SCORED = 10_000
"""Of the examples that are scored."""
_SCORE_PLACES = 6
"""Of a score: float32 sums may be ordered differently elsewhere."""
Score = Callable[[ModelInputs], npt.NDArray[np.float32]]


def make_reference(
    schema: Schema,
    table: ExampleTable,
    *,
    learnt: Sequence[datetime.date],
    held_out: Sequence[datetime.date],
    score: Score,
) -> Profile:
    """The reference of a ranker.

    Args:
        schema: The data set's schema.
        table: The examples.
        learnt: Days on which it was trained, oldest first; at least one of both has rows.
        held_out: Days on which it was not.
        score: Probabilities of encoded rows.
    """
    newest = list(learnt[-MOST_DAYS:] or held_out)
    judged = list(held_out or learnt[-1:])
    rows = sampled_rows(table, newest, most=MOST_ROWS)
    if rows is None:
        raise ValueError(f"examples: no rows from {newest[:1]} to {newest[-1:]} in {table.root}")
    sketches = profile_rows(schema, example_rows(schema, rows))
    scored = sampled_rows(table, judged, most=MOST_SCORED)
    kept = None if scored is None else judged_rows(schema, scored)
    if kept is None or not len(kept):
        kept, judged = rows.slice(0, MOST_SCORED), newest
    sketches |= profile_rows(schema, example_rows(schema, kept, score=score), has_inputs=False)
    about = {
        "schema_fingerprint": schema.fingerprint(),
        "days": [newest[0].isoformat(), newest[-1].isoformat()],
        "rows": len(rows),
        "scored_days": [judged[0].isoformat(), judged[-1].isoformat()],
        "scored_rows": len(kept),
    }
    return Profile(about, sketches)


def example_rows(schema: Schema, table: pa.Table, *, score: Score | None = None) -> Rows:
    """Examples as rows whose distributions are wanted, each of weight 1.

    Args:
        schema: The data set's schema.
        table: Raw columns of examples.
        score: Gives their probabilities; None: they are not wanted.
    """
    examples = encode_examples(schema, table)
    scores = None if score is None else np.round(score(examples.inputs), _SCORE_PLACES)
    columns = {name: table.column(name) for name in table.column_names}
    return Rows(
        columns=columns,
        inputs=examples.inputs,
        weight=np.ones(len(examples)),
        score=scores,
        label=examples.label.astype(np.float64),
    )


def read_reference(directory: Place) -> Profile | None:
    """The reference of an artifact; None for one that was exported before there were any.

    Raises:
        ArtifactError: The file is missing, or it is not the one that the manifest names.
    """
    expected = read_manifest(directory).content_sha256.get(REFERENCE)
    if expected is None:
        return None
    path = directory / REFERENCE
    try:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no file; expected sha256 {expected}") from error
    if found != expected:
        raise ArtifactError(f"{path}: sha256 {found}; expected {expected}")
    return Profile.from_bytes(content)
