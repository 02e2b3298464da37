"""The data sets by name."""

from features.datasets import movielens_100k, open_bandit, synthetic
from features.schema import Schema

SCHEMAS: dict[str, Schema] = {
    schema.name: schema for schema in (movielens_100k.SCHEMA, open_bandit.SCHEMA, synthetic.SCHEMA)
}


def schema_of(name: str) -> Schema:
    """The schema of a data set; ValueError with the names that exist."""
    if name not in SCHEMAS:
        raise ValueError(f"dataset {name!r}: unknown; the data sets are {sorted(SCHEMAS)}")
    return SCHEMAS[name]
