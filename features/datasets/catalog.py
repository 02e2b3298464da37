"""The data sets by name, as a deployment has them."""

import os
from collections.abc import Mapping

from features.datasets.movielens_100k import schema as movielens_100k
from features.datasets.open_bandit import schema as open_bandit
from features.datasets.synthetic import schema as synthetic
from features.datasets.synthetic_fields import schema as synthetic_fields
from features.schema import Schema

SCHEMAS: dict[str, Schema] = {
    module.SCHEMA.name: module.SCHEMA
    for module in (movielens_100k, open_bandit, synthetic, synthetic_fields)
}
PUSH = "RANKING_PUSH"
"""Variable: ``on``, the default, where a push brings users online within a day; ``off``."""


def schema_of(name: str, *, environment: Mapping[str, str] = os.environ) -> Schema:
    """The schema of a data set in a deployment; without a push, state counts when daily rows do.

    Raises:
        ValueError: There is no such data set, or RANKING_PUSH is neither on nor off.
    """
    if name not in SCHEMAS:
        raise ValueError(f"dataset {name!r}: unknown; the data sets are {sorted(SCHEMAS)}")
    return SCHEMAS[name] if has_push(environment) else SCHEMAS[name].without_push()


def has_push(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this deployment pushes; ValueError where RANKING_PUSH is neither on nor off."""
    value = environment.get(PUSH) or "on"
    if value not in {"on", "off"}:
        raise ValueError(f"{PUSH}: {value!r}; on or off")
    return value == "on"
