"""A whole scaling study of a data set: sweeps within a budget, the law, its page and the advice."""

import json
import logging

from features.cli import SkippedError
from features.places import Place, put_whole
from features.schema import Schema
from training.config.model import WukongConfig
from training.data.dataset import ExampleTable
from training.experiments.requests import ScalingRequest
from training.experiments.scaling.advice import Current, study
from training.experiments.scaling.page import write_law_page
from training.experiments.scaling.points import read_points
from training.experiments.sweep.runs import Runs
from training.experiments.sweep.sizes import sizes_of
from training.experiments.sweep.sweep import Sweep
from training.model.flops import cost_of
from training.model.inputs import inputs_of
from training.recipes import USUAL, recipe_of
from training.registry.aliases import CHAMPION
from training.registry.mlflow_registry import Registry, Version

logger = logging.getLogger(__name__)


def run_study(schema: Schema, request: ScalingRequest) -> dict[str, object]:
    """Run what is missing of some axes, then say what all points of the data set mean.

    The advice goes to a file that ``upscale --to advice`` reads; it is kept when there are too few
    points for a law.
    """
    versions = Registry(request.tracking, schema.name)
    alias = versions.alias(CHAMPION)
    champion = versions.version(alias) if alias else None
    recipe = recipe_of(request.recipe or (champion.recipe if champion else "") or USUAL)
    logger.info("recipe %s; champion %s", recipe.name, champion.version if champion else "none")
    registry = Registry(request.tracking, f"{schema.name}-scaling")
    table, batch_size = ExampleTable(request.lake, schema), request.batch_size
    runs = Runs(table, registry, last=request.date, batch_size=batch_size)
    sweep = Sweep(runs, request.study, seeds=request.seeds, budget_seconds=request.budget * 60)
    swept = {
        axis: sweep.run(sizes_of(axis, recipe, num_points=request.points)) for axis in request.axes
    }
    found = {"dataset": schema.name, "recipe": recipe.name, "swept": swept}
    production = _current(schema, champion) if champion and champion.recipe else None
    try:
        law = study(read_points(sweep.points) if sweep.points.exists() else [], production)
    except ValueError as error:
        logger.warning("no law yet: %s", error)
        return {**found, "law": str(error)}
    advice = law.advice.to_dict()
    put_whole(advice_file(request.study, schema), json.dumps(advice, indent=1).encode())
    page = write_law_page(request.reports, schema.name, law)
    return {**found, "advice": advice["text"], "target": advice["target"], "report": page}


def advice_file(folder: Place, schema: Schema) -> Place:
    """Where the newest advice for a data set is."""
    return folder / f"{schema.name}-advice.json"


def advised_target(folder: Place, schema: Schema) -> str:
    """The recipe that the newest study advises to grow to.

    Raises:
        SkippedError: There is no study, or it shows no recipe to gain.
    """
    path = advice_file(folder, schema)
    if not path.exists():
        raise SkippedError(f"target advice: no {path}; run `python -m training scaling`")
    advice = json.loads(path.read_text())
    if not advice["target"]:
        raise SkippedError(f"target advice: no recipe is shown to gain: {advice['text'][0]}")
    return str(advice["target"])


def _current(schema: Schema, champion: Version) -> Current:
    """Where production is on the axes that its recipe determines."""
    model = recipe_of(champion.recipe).model
    flops = float(cost_of(inputs_of(schema), model).training_flops)
    known = {"compute": flops, "dense": flops, "overarch": flops, "dim": float(model.embedding_dim)}
    if isinstance(model.interaction, WukongConfig):
        known["depth"] = float(len(model.interaction.layers))
    return Current(name=champion.version, model=model.interaction.kind, x=known)
