"""The data sets by name."""

from features.datasets import movielens_100k, open_bandit, synthetic, synthetic_fields
from features.schema import Schema

SCHEMAS: dict[str, Schema] = {
    module.SCHEMA.name: module.SCHEMA
    for module in (movielens_100k, open_bandit, synthetic, synthetic_fields)
}


def schema_of(name: str) -> Schema:
    """The schema of a data set; ValueError with the names that exist."""
    if name not in SCHEMAS:
        raise ValueError(f"dataset {name!r}: unknown; the data sets are {sorted(SCHEMAS)}")
    return SCHEMAS[name]
