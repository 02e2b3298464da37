"""The commands of ``python -m training`` for experiments: what each does with a request.

What is slow to import is imported in the command that needs it.
"""

import datetime

from features.cli import Command, Summary
from features.datasets.catalog import schema_of
from training.cli.plan import plan
from training.experiments.public_data.request import BenchmarkRequest
from training.experiments.requests import (
    BacktestRequest,
    DailyRequest,
    ExportBenchRequest,
    GrowthRequest,
    LawRequest,
    ScalingRequest,
    SpeedRequest,
)
from training.recipes import recipe_of
from training.resources import num_cores


def _export_bench(request: ExportBenchRequest) -> Summary:
    from training.experiments.scoring_speed import measure

    schema, cores = schema_of(request.dataset), num_cores()
    return {
        name: measure(schema, name, request.compiled, num_cores=cores) for name in request.recipes
    }


def _backtest(request: BacktestRequest) -> Summary:
    from training.data.dataset import ExampleTable
    from training.distributed.process_group import process_group
    from training.experiments.backtest import run_backtest

    schema, recipe = schema_of(request.dataset), recipe_of(request.recipe)
    table = ExampleTable(request.lake, schema)
    first = request.date - datetime.timedelta(days=request.days - 1)
    with process_group():
        found = run_backtest(recipe, table, table.days(first, request.date))
    return {"dataset": schema.name, "recipe": recipe.name, **found}


def _daily(request: DailyRequest) -> Summary:
    from training.data.dataset import ExampleTable
    from training.distributed.process_group import process_group
    from training.experiments.daily.page import write_page
    from training.experiments.daily.results import run_policies

    schema, recipe = schema_of(request.dataset), recipe_of(request.recipe)
    table = ExampleTable(request.lake, schema)
    first = request.date - datetime.timedelta(days=request.days - 1)
    days = table.days(first, request.date)
    with process_group():
        found = run_policies(table, recipe, days, names=request.policies, seeds=request.seeds)
    written = write_page(request.reports, schema.name, found)
    return {"dataset": schema.name, "recipe": recipe.name, **found, "report": written}


def _growth(request: GrowthRequest) -> Summary:
    from training.data.dataset import ExampleTable
    from training.distributed.process_group import process_group
    from training.experiments.growth.arms import Log
    from training.experiments.growth.compare import compare
    from training.experiments.journal import Journal
    from training.model.grown_config import Operator

    table = ExampleTable(request.lake, schema_of(request.dataset))
    recipes = (recipe_of(request.recipe), recipe_of(request.target))
    with process_group():
        operator = Operator(request.operator)
        log = Log(table, *recipes, batch_size=request.batch_size, operator=operator)
        journal = Journal(request.study / f"{request.dataset}-growth.jsonl")
        return compare(
            log, journal, share=request.share, seeds=request.seeds, trials=request.trials
        )


def _scaling(request: ScalingRequest) -> Summary:
    from training.distributed.process_group import process_group
    from training.experiments.sweep.run_study import run_study

    with process_group():
        return run_study(schema_of(request.dataset), request)


def _law(request: LawRequest) -> Summary:
    from training.experiments.scaling.advice import read_current, study
    from training.experiments.scaling.page import write_law_page
    from training.experiments.scaling.points import read_points

    current = read_current(request.current) if request.current else None
    found = study(read_points(request.points), current)
    page = write_law_page(request.reports, request.points.stem, found)
    return {**found.to_dict(), "report": page}


def _benchmark(request: BenchmarkRequest) -> Summary:
    from training.distributed.process_group import process_group
    from training.experiments.public_data.run import run_benchmark

    with process_group():
        return run_benchmark(request)


def _speed(request: SpeedRequest) -> Summary:
    from training.distributed.device import num_cuda_devices

    ranks = request.ranks or max(1, num_cuda_devices())
    if ranks > 1:
        from training.cli.torchrun import speed_by_ranks

        return speed_by_ranks(request.configuration, ranks=ranks)
    from training.distributed.process_group import process_group
    from training.experiments import train_speed

    with process_group():
        if request.profile:
            return {
                "markdown": train_speed.profile(request.configuration, is_compiled=request.compile)
            }
        return train_speed.measure(request.configuration, is_compiled=request.compile)


EXPERIMENTS: dict[str, Command] = {
    "export-bench": _export_bench,
    "backtest": _backtest,
    "daily": _daily,
    "plan": plan,
    "growth": _growth,
    "scaling": _scaling,
    "law": _law,
    "benchmark": _benchmark,
    "speed": _speed,
}
