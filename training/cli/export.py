"""The commands that make a ranker ready to serve: export, compile, and what both are worth.

They import what is slow to import when they run.
"""

import argparse
import os
from pathlib import Path

from features.cli import CommandLine, Summary
from features.datasets.catalog import schema_of
from training.cli.arguments import day, recipe_name
from training.resources import num_cores


def add_export(command_line: CommandLine) -> None:
    """The command ``export``."""
    text = "Make a checkpoint an artifact and register it."
    folders = ("lake", "checkpoints", "artifacts", "tracking", "compiled")
    export = command_line.command("export", _export, text, *folders)
    which = export.add_mutually_exclusive_group(required=True)
    which.add_argument("--date", type=day, metavar="YYYY-MM-DD", help="day whose checkpoint")
    which.add_argument("--checkpoint", metavar="CHECKPOINT", help="else its folder's name")
    export.add_argument(
        "--tables",
        choices=("fp32", "int8", "int4"),
        default="int8",
        help="numbers of the embedding tables; the summary has the cost of each",
    )


def add_compile(command_line: CommandLine) -> None:
    """The command ``compile``."""
    text = (
        "Compile an artifact's dense part for this machine. A server does it by itself when it "
        "loads an architecture that it has not met; done before, the load is quick. The code has "
        "no weights in it, and serves every artifact of the same architecture."
    )
    compiling = command_line.command("compile", _compile, text, "compiled", has_dataset=False)
    compiling.add_argument(
        "--artifact", type=Path, required=True, metavar="DIR", help="folder of one artifact"
    )


def add_bench(command_line: CommandLine) -> None:
    """The command ``export-bench``."""
    text = (
        "Measure what scoring a request costs. Milliseconds eager and native, with tables of each "
        "precision, beside the machine's limit; `make bench-export` has the loss in NE too."
    )
    bench = command_line.command("export-bench", _export_bench, text, "compiled")
    bench.add_argument(
        "--recipes",
        nargs="+",
        type=recipe_name,
        default=["wukong-small", "wukong-small-x3"],
        metavar="RECIPE",
        help="whose dense parts",
    )


def _export(options: argparse.Namespace) -> Summary:
    from training.artifact.aoti_cache import NativeCode
    from training.artifact.export import compiled, export
    from training.artifact.quantized_tables import TablePrecision
    from training.registry.mlflow_registry import Registry

    schema = schema_of(options.dataset)
    name = options.checkpoint or options.date.isoformat()
    manifest = export(
        *(schema, options.lake, options.checkpoints, options.artifacts, name),
        tables=TablePrecision(options.tables),
    )
    directory = options.artifacts / schema.name / manifest.version
    Registry(options.tracking, schema.name).register(manifest, directory)
    return {
        "version": manifest.version,
        "artifact": str(directory),
        "metrics": manifest.metrics,
        "tables": manifest.tables,
        "table_costs": manifest.table_costs,
        "native": compiled(NativeCode.from_environment(options.compiled), schema, directory),
    }


def _compile(options: argparse.Namespace) -> Summary:
    from training.artifact.aoti_compile import compile_dense
    from training.artifact.manifest import read_manifest
    from training.config.model import model_from_dict
    from training.model.inputs import inputs_of

    # A server on this machine has priority.
    os.nice(10)
    manifest = read_manifest(options.artifact)
    config = model_from_dict(manifest.config["model"])
    inputs = inputs_of(schema_of(manifest.dataset))
    return compile_dense(inputs, config, options.compiled)


def _export_bench(options: argparse.Namespace) -> Summary:
    from training.experiments.scoring_speed import measure

    cores = num_cores()
    schema = schema_of(options.dataset)
    return {
        name: measure(schema, name, options.compiled, num_cores=cores) for name in options.recipes
    }
