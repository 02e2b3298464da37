"""The requests of the command line of training: what is wrong usage, and what they change."""

import datetime
from pathlib import Path

import pytest

from training.__main__ import main
from training.cli.commands import COMMANDS
from training.config.recipe import DenseParallelism, Precision
from training.recipes import recipe_of
from training.requests import TrainRequest

DAY = datetime.date(2025, 1, 6)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("export", "one of the arguments --date --checkpoint is required"),
        (
            "export --date=2025-01-06 --checkpoint=2025-01-06",
            "argument --checkpoint: not allowed with argument --date",
        ),
        (
            "train --date=2025-01-06 --trial=grown",
            "trial grown: no --from; a trial names what it goes on from",
        ),
        (
            "train --date=2025-01-06 --immature --from=2025-01-05",
            "--immature: not with --from or --recipe; the day's own are taken",
        ),
        (
            "train --date=2025-01-06 --changed-since=2025-01-03 --from=2025-01-02",
            "--changed-since 2025-01-03: not with --from or --immature",
        ),
        (
            "evaluate --date=2025-01-06 --candidate=v1",
            "candidate 'v1', control None; a trial has both",
        ),
        ("evaluate --date=2025-01-06 --anchor-days=-1", "'-1': a whole number, at least 0"),
        ("train --date=2025-01-06 --ranks=0", "'0': a whole number, at least 1"),
        ("upscale --from=champion --to=10", "recipe '10': unknown"),
        ("scaling --axis=data,height", "['height']: axes are ['compute', 'data', 'dense'"),
        ("export-bench --recipes wukong-small wukong-huge", "recipe 'wukong-huge': unknown"),
        ("worker", "invalid choice: 'worker'"),
    ],
)
def test_wrong_usage_is_an_error_before_anything_runs(arguments, why, capsys):
    command, *flags = arguments.split()
    with pytest.raises(SystemExit) as ended:
        main([command, "--dataset=synthetic", *flags])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_memory_is_asked_for_in_units(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--hbm=80"])
    assert "'80': a size such as 80GB or 512MB" in capsys.readouterr().err


def test_a_training_changes_only_what_it_names():
    recipe = recipe_of("wukong-tiny")
    assert request().changed(recipe) == recipe
    changed = request(
        batch_size=64,
        epochs=3,
        precision=Precision.BF16,
        dense_parallelism=DenseParallelism.FSDP2,
    ).changed(recipe)
    training = changed.training
    assert (training.batch_size, training.cold_epochs, training.warm_epochs) == (64, 3, 3)
    assert training.precision is Precision.BF16
    assert changed.sharding.dense_parallelism is DenseParallelism.FSDP2
    assert (changed.name, changed.model) == (recipe.name, recipe.model)
    assert training.dense_learning_rate == recipe.training.dense_learning_rate


def request(**changes) -> TrainRequest:
    folders = dict.fromkeys(("lake", "checkpoints", "tracking", "reports"), Path("var"))
    return TrainRequest(dataset="synthetic", date=DAY, **folders, **changes)


def test_the_list_of_commands_has_one_line_for_each(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {name}" in shown for name in COMMANDS)
