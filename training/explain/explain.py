"""Which rows made a score: the way back from an answer."""

import dataclasses
import json

from features.places import Place
from features.schema import Schema
from training.explain.answer import find_answer
from training.explain.feature_rows import feature_rows
from training.explain.learnt import learnt_by
from training.explain.sources import sources
from training.explain.words import in_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folders:
    """Where everything lies; each has a folder for each data set."""

    log: Place
    lake: Place
    landing: Place
    checkpoints: Place
    artifacts: Place


def explain(
    schema: Schema, folders: Folders, answer_id: str, *, item: str, most: int
) -> dict[str, object]:
    """Walk back from an answer to landed rows.

    Args:
        schema: The data set.
        folders: Where to look.
        answer_id: As the response had it.
        item: Of the answer, whose rows are shown; empty: the first by rank.
        most: Candidates, and impressions of an entity, to list.

    Raises:
        ValueError: The log does not have the answer, or the answer not the item.
    """
    answer = find_answer(folders.log, schema, answer_id)
    candidate = answer.candidate(item)
    learnt = learnt_by(
        schema,
        answer.version,
        artifacts=folders.artifacts,
        checkpoints=folders.checkpoints,
        lake=folders.lake,
    )
    lake, landing = folders.lake / schema.name, folders.landing / schema.name
    read = feature_rows(schema, lake, candidate)
    found = sources(schema, lake, landing, read, most=most)
    plain = {
        "answer": answer.to_dict(most),
        "version": learnt.to_dict(),
        "rows_read": [dataclasses.asdict(one) for one in read],
        "sources": [dataclasses.asdict(one) for one in found],
    }
    return {
        **json.loads(json.dumps(plain, default=str)),
        "markdown": in_words(answer, candidate, learnt, read, found),
    }
