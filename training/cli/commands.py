"""The commands of ``python -m training`` for the days: what each does with its request.

What is slow to import is imported in the command that needs it, so that ``--help`` is quick.
"""

import os

from features.cli import Command, Summary
from features.datasets.catalog import schema_of
from features.lineage import observed
from features.places import Place, place
from training.checkpoint.catalog import Checkpoint, Checkpoints
from training.cli.experiments import EXPERIMENTS
from training.cli.forget import FORGET
from training.cli.monitoring import MONITORING
from training.cli.rank_requests import GrowthRank, TrainingRank
from training.cli.registry_requests import FamilyRequest, PruneRequest
from training.explain.request import ExplainRequest
from training.recipes import recipe_of, target_of
from training.registry import parent_selection
from training.registry.model_lineage import checkpoint_dataset, note_trained
from training.requests import (
    ADVICE,
    CompileRequest,
    EvaluateRequest,
    ExportRequest,
    TrainRequest,
    UpscaleRequest,
)


def _train(request: TrainRequest) -> Summary:
    from training.cli.torchrun import default_ranks, join_training, train_and_track
    from training.distributed.hosts import Hosts

    hosts = Hosts.from_environment()
    hosts.check()
    ranks = hosts.ranks_here(request.ranks, default=default_ranks)
    if hosts.number:
        return join_training(f"training of {request.date}", hosts=hosts, ranks=ranks)
    schema = schema_of(request.dataset)
    through = parent_selection.holdout_start(schema, request.date, days=request.holdout_days)
    checkpoints = Checkpoints(request.checkpoints, schema)
    if request.immature and schema.label.immature is None:
        raise ValueError(f"--immature: label {schema.label.name} of {schema.name} declares none")
    recipe = request.changed(recipe_of(_recipe_name(request, checkpoints)))
    if request.source:
        parent_selection.check_parent(checkpoints, request.source, recipe=recipe, through=through)
    if request.immature:
        parent_selection.check_mature(
            checkpoints, request.date, through=through, holdout_days=request.holdout_days
        )
    rank = TrainingRank(asked=request, recipe=recipe, through=through)
    trained = train_and_track(schema, rank, hosts=hosts, ranks=ranks)
    _note_trained(checkpoints, place(str(trained["checkpoint"])), place(request.lake))
    if not request.role:
        checkpoints.forget_immature(request.date)
    return trained


def _note_trained(checkpoints: Checkpoints, written: Place, lake: Place) -> None:
    if not observed.is_observing():
        return
    found = Checkpoint.at(written)
    parent = found.manifest.parent
    before = checkpoints.find(parent) if parent else None
    note_trained(found, before, lake / checkpoints.schema.name)


def _recipe_name(request: TrainRequest, checkpoints: Checkpoints) -> str:
    """The one asked for, that of ``--from``, or the day's own."""
    if request.recipe:
        return request.recipe
    if request.immature:
        return checkpoints.named(str(request.date)).recipe_name
    if request.source:
        return checkpoints.named(request.source).recipe_name
    from training.registry.mlflow_registry import Registry

    registry = Registry(request.tracking, request.dataset)
    return parent_selection.recipe_of_day(checkpoints, registry, request.date)


def _upscale(request: UpscaleRequest) -> Summary:
    from training.cli.torchrun import run_on_ranks

    schema, target = schema_of(request.dataset), request.target
    if target == ADVICE:
        from training.experiments.sweep.run_study import advised_target

        target = advised_target(request.study, schema)
    # A wrong name is an error before any process is started.
    checkpoints = Checkpoints(request.checkpoints, schema)
    if request.source in parent_selection.ALIASES:
        from training.registry.mlflow_registry import Registry

        source = parent_selection.checkpoint_of_alias(
            checkpoints,
            Registry(request.tracking, schema.name),
            request.source,
            day=request.date,
        )
    else:
        source = checkpoints.named(request.source)
    through = None
    if request.date:
        through = parent_selection.holdout_start(schema, request.date, days=request.holdout_days)
        source = parent_selection.rewound(
            source, checkpoints, through=through, days=request.budget_days
        )
    grown = recipe_of(target_of(source.recipe_name, target))
    rank = GrowthRank(asked=request, source=source.name, target=grown, through=through)
    done = run_on_ranks(rank, f"upscaling of {source.name}", ranks=source.manifest.ranks)
    _note_trained(checkpoints, place(str(done["checkpoint"])), place(request.lake))
    return done


def _export(request: ExportRequest) -> Summary:
    from training.artifact.aoti_cache import NativeCode
    from training.artifact.export import compiled, export
    from training.artifact.quantized_tables import TablePrecision
    from training.registry.mlflow_registry import Registry

    schema = schema_of(request.dataset)
    known = Checkpoints(request.checkpoints, schema)
    manifest = export(
        *(schema, request.lake, request.checkpoints, request.artifacts),
        known.served(request.date) if request.date else str(request.checkpoint),
        tables=TablePrecision(request.tables),
    )
    directory = request.artifacts / schema.name / manifest.version
    Registry(request.tracking, schema.name).register(manifest, directory)
    observed.read(checkpoint_dataset(known.named(manifest.checkpoint)))
    return {
        "version": manifest.version,
        "artifact": str(directory),
        "metrics": manifest.metrics,
        "tables": manifest.tables,
        "table_costs": manifest.table_costs,
        "native": compiled(NativeCode.from_environment(request.compiled), schema, directory),
    }


def _compile(request: CompileRequest) -> Summary:
    from training.artifact.aoti_compile import compile_dense
    from training.artifact.manifest import read_manifest
    from training.config.model import model_from_dict
    from training.model.inputs import inputs_of

    # A server on this machine has priority.
    os.nice(10)
    manifest = read_manifest(request.artifact)
    config = model_from_dict(manifest.config["model"])
    inputs = inputs_of(schema_of(manifest.dataset))
    return compile_dense(inputs, config, request.compiled)


def _evaluate(request: EvaluateRequest) -> Summary:
    from training.cli.judge import judge

    return judge(schema_of(request.dataset), request)


def _family(request: FamilyRequest) -> Summary:
    from training.evaluation.family_page import write_family_page
    from training.registry.family_tree import family
    from training.registry.mlflow_registry import Registry

    schema = schema_of(request.dataset)
    members = family(
        schema,
        Registry(request.tracking, schema.name),
        checkpoints=request.checkpoints,
        artifacts=request.artifacts,
    )
    page = write_family_page(request.reports, schema.name, members)
    plain = [member.to_dict() for member in members]
    return {"dataset": schema.name, "members": plain, "report": page}


def _prune(request: PruneRequest) -> Summary:
    from training.checkpoint.learnt_days import complete_records
    from training.registry.champions import prune, release_pins, release_records

    schema, folders = schema_of(request.dataset), (request.checkpoints, request.artifacts)
    # What a checkpoint that goes has learnt is in the records of those after it.
    lake = place(request.lake)
    complete_records(lake / schema.name, Checkpoints(request.checkpoints, schema))
    found = prune(
        schema, *folders, request.tracking, keep=request.keep, anchor_days=request.anchor_days
    )
    records = release_records(schema, *folders, lake)
    return {**found, "records": records, "unpinned": release_pins(schema, *folders, lake)}


def _explain(request: ExplainRequest) -> Summary:
    from features.prediction_log.settings import Logging
    from training.explain.explain import Folders, explain

    settings = Logging.from_environment()
    if request.log is None and not settings.has_folder:
        raise ValueError("--log: not given, and RANKING_LOG_FOLDER is not set; one of them")
    folders = Folders(
        log=request.log or settings.folder,
        lake=request.lake,
        landing=request.landing,
        checkpoints=request.checkpoints,
        artifacts=request.artifacts,
    )
    schema = schema_of(request.dataset)
    return explain(schema, folders, request.answer, item=request.item, most=request.rows)


COMMANDS: dict[str, Command] = {
    "train": _train,
    "upscale": _upscale,
    "export": _export,
    "compile": _compile,
    "evaluate": _evaluate,
    "family": _family,
    **MONITORING,
    "explain": _explain,
    **EXPERIMENTS,
    "prune": _prune,
    **FORGET,
}
"""In the order of ``--help``."""
