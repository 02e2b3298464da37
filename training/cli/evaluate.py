"""The commands ``evaluate``, which is the gate, and ``family``.

They import what is slow to import when they run.
"""

import argparse

from features.cli import CommandLine, Summary, add_date
from features.datasets.catalog import schema_of
from training.cli.arguments import add_anchor


def add_evaluate(command_line: CommandLine) -> None:
    """The command ``evaluate``."""
    text = (
        "Judge a day's candidate; the gate. It says promote when log loss, GAUC, calibration and "
        "slices are shown to be within their limits beside the champion and an older one, the "
        "anchor; refuse when one is shown to be beyond; hold when the days cannot tell. With "
        "--candidate and --control, judge a ranker that grew: it must be shown to be better than "
        "the champion and than the one that did not grow. docs/training.md has the limits."
    )
    folders = ("lake", "checkpoints", "artifacts", "tracking", "reports")
    evaluate = command_line.command("evaluate", _evaluate, text, *folders)
    add_date(evaluate, "last day of the holdout, YYYY-MM-DD")
    evaluate.add_argument("--drill", choices=("spoilt",), help="spoil the candidate on purpose")
    evaluate.add_argument("--candidate", metavar="VERSION", help="else the day's newest")
    evaluate.add_argument("--control", metavar="VERSION", help="the un-grown one of a trial")
    add_anchor(evaluate, "compare with who was champion so many days before, too; 0: do not")
    evaluate.add_argument(
        "--first",
        action="store_true",
        help="where nothing serves yet: let a candidate through that is shown to beat the base "
        "rate, even if there are too few rows to judge its calibration or a slice",
    )
    evaluate.add_argument(
        "--no-gauc",
        action="store_true",
        help="do not compare GAUC: for logs in which hardly any user has both labels",
    )


def add_family(command_line: CommandLine) -> None:
    """The command ``family``."""
    text = "Print the family of the rankers: who was trained, or grew, from whom."
    command_line.command("family", _family, text, "checkpoints", "artifacts", "tracking", "reports")


def _evaluate(options: argparse.Namespace) -> Summary:
    from training.cli.judge import judge

    return judge(schema_of(options.dataset), options)


def _family(options: argparse.Namespace) -> Summary:
    from training.cli.judge import show_family

    return show_family(schema_of(options.dataset), options)
