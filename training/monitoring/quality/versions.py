"""What is known of the versions that answered: how new their knowledge was, and how good."""

import collections
import datetime
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from features.places import Place
from features.schema import Schema
from training.artifact.manifest import ArtifactError, Manifest, read_manifest
from training.checkpoint.catalog import IMMATURE
from training.monitoring.quality.results import VersionDay
from training.monitoring.quality.scored_rows import Bools, Scorer

CHAMPION = "champion"
"""The role."""


class Known(NamedTuple):
    """Of a version; None: not known."""

    learnt_through: datetime.date | None
    training_ne: float | None
    """On the days held out at its training."""


def known_versions(
    schema: Schema, artifacts: Place, versions: Iterable[str], before: Iterable[VersionDay]
) -> dict[str, Known]:
    """By version, from its artifact, or from earlier results where the artifact is gone.

    Args:
        schema: Of the data set.
        artifacts: Folder of all artifacts.
        versions: Their names.
        before: Results of other days.
    """
    noted = {one["version"]: _noted(one) for one in before}
    found = {}
    for version in set(versions):
        try:
            manifest = read_manifest(artifacts / schema.name / version)
        except ArtifactError:
            found[version] = noted.get(version, Known(None, None))
        else:
            found[version] = Known(learnt_through(schema, manifest), manifest.metrics.get("ne"))
    return found


def learnt_through(schema: Schema, manifest: Manifest) -> datetime.date:
    """The newest day of which an artifact has learnt rows, those with immature labels too."""
    if manifest.role == IMMATURE:
        landed = datetime.timedelta(days=schema.maturity_days)
        return datetime.date.fromisoformat(manifest.day) + landed
    return datetime.date.fromisoformat(manifest.trained_through)


def champion_ne(
    known: Mapping[str, Known], scorers: Mapping[Scorer, Bools], scorer: Scorer
) -> float | None:
    """Of a champion its own normalised entropy at its training, else that of who most was champion.

    None where no champion answered, or nothing is known of it.
    """
    if scorer.role == CHAMPION:
        return known[scorer.version].training_ne
    champions = collections.Counter(
        {one.version: int(rows.sum()) for one, rows in scorers.items() if one.role == CHAMPION}
    )
    return known[champions.most_common(1)[0][0]].training_ne if champions else None


def age_days(known: Known, moments: "np.typing.NDArray[np.datetime64]") -> int | None:
    """Days from the newest day learnt to that of most requests; None where it is not known.

    Args:
        known: Of the version.
        moments: (rows,) of the requests, at least one.
    """
    if known.learnt_through is None:
        return None
    days, counts = np.unique(moments.astype("datetime64[D]"), return_counts=True)
    day: datetime.date = days[counts.argmax()].item()
    return (day - known.learnt_through).days


def _noted(one: VersionDay) -> Known:
    through = one["learnt_through"]
    return Known(
        None if through is None else datetime.date.fromisoformat(through), one["training_ne"]
    )
