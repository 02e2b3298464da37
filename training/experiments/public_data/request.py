"""What the command ``benchmark`` may be asked; free of imports that take long."""

from features.datasets.catalog import known
from features.options import count, folder, from_flags, option
from features.places import Place, place
from training.config.model import MODELS
from training.recipes import recipe_name

PUBLIC_DATA = (
    "frappe",
    "frappe-stand-in",
    "movielens-latest",
    "microvideo",
    "kuaivideo",
    "taobao-ad",
    "criteo-kaggle",
    "criteo-terabyte",
)
"""Data sets of papers, which are no data sets of the pipeline."""


def _benchmark(text: str) -> str:
    """The name of data of papers, or of a data set."""
    return text if text in PUBLIC_DATA else known(text)


@from_flags
class BenchmarkRequest:
    """Train a ranker, or LightGBM, on a public data set and print its test figures.

    The files are read as they are published (docs/benchmarks.md says which); validation decides
    when to stop and what a search keeps, the test split is scored once.
    """

    dataset: str = option(
        f"one of {', '.join(PUBLIC_DATA)}, or a data set of the lake",
        metavar="NAME",
        parse=_benchmark,
    )
    data: Place = folder("lake", "where its files are")
    model: str = option("which", choices=(*MODELS, "lightgbm"), default="wukong")
    recipe: str | None = option(
        "else the data set's own for the model",
        parse=recipe_name,
        metavar="RECIPE",
        default=None,
    )
    seeds: int = option("runs to average", default=3)
    search: int = option("settings to try on validation first", metavar="N", default=0)
    search_rows: int | None = option(
        "newest training rows that a setting is tried on (else all)",
        metavar="N",
        parse=count,
        default=None,
    )
    batch_size: int | None = option(
        "examples a step (else the recipe's)", metavar="N", parse=count, default=None
    )
    compute_of: str | None = option(
        "a training costs at most what this one's epochs do, or one epoch (else: its own)",
        parse=recipe_name,
        metavar="RECIPE",
        default=None,
    )
    losses: Place | None = option(
        "file for the log loss of each test row by seed (.npz)",
        parse=place,
        metavar="FILE",
        default=None,
    )
