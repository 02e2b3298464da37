"""The readers by the name of their data set."""

from collections.abc import Sequence
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession

from features.datasets.movielens_100k import reader as movielens_100k
from features.datasets.open_bandit import reader as open_bandit
from features.datasets.synthetic import reader as synthetic
from features.datasets.synthetic_fields import reader as synthetic_fields
from features.places import Place
from features.schema import FeatureTable


class Reader(Protocol):
    """What the module ``reader`` of a data set offers."""

    SUFFIX: str

    def fetch(self, landing: Place, **options: int) -> dict[str, int | float]:
        """Get the log and land it by day; returns what it got."""

    def read_files(self, spark: SparkSession, paths: Sequence[Place]) -> DataFrame:
        """Impressions of some landed files, which may hold days or parts of days.

        Typed as the schema says, with ``day`` and where each row landed (``SOURCE``).
        """

    def read_attributes(
        self, spark: SparkSession, landing: Place, table: FeatureTable
    ) -> DataFrame:
        """Attributes of an entity: its id and the table's columns."""


READERS: dict[str, Reader] = {
    "movielens-100k": movielens_100k,  # type: ignore[dict-item]  # modules have no keyword protocol
    "open-bandit": open_bandit,  # type: ignore[dict-item]
    "synthetic": synthetic,  # type: ignore[dict-item]
    "synthetic-fields": synthetic_fields,  # type: ignore[dict-item]
}
