"""What the ranks of a run are asked to do, as the launcher hands it to them: in a file.

Everything in it is decided: the recipe whole, days and checkpoints by name. The file is pickled:
both sides run the same code, and its folder is this user's alone. Of several hosts host 0 alone has
it, and rank 0 hands it to the others. Imports no torch.
"""

import dataclasses
import datetime

from features.places import Place
from training.config.recipe import Recipe
from training.requests import TrainRequest, UpscaleRequest

REQUEST, RESULT, MLFLOW_RUN = "request.pickle", "result.json", "mlflow_run"
"""Files of a run's folder: what is asked, what rank 0 found, and the id of the MLflow run, which
the launcher writes once the run is open and rank 0 reads when it saves."""
EXAMPLES_VERSION = "examples_version"
"""File of a run's folder: what rank 0 pinned, for ranks that are started again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRank:
    """Train the candidate of a day."""

    asked: TrainRequest
    recipe: Recipe
    through: datetime.date
    """Last day to train on."""
    failures: Place | None = None
    """Folder in which ranks of several hosts find one another's failures; None: one host."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowthRank:
    """Grow a checkpoint."""

    asked: UpscaleRequest
    source: str
    """Its folder's name."""
    target: Recipe
    through: datetime.date | None = None
    """Last day of a probe's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedRank:
    """Measure steps of a configuration, and their input."""

    configuration: str


RankRequest = TrainingRank | GrowthRank | SpeedRank
