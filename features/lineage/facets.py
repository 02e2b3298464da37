"""Facets of our own, by OpenLineage's rule for custom ones; ``facets.json`` has their schemas.

OpenLineage has no facets of models yet: https://github.com/OpenLineage/OpenLineage/issues/4035
proposes optional ones on the objects that there are, with no other core schema. So a model is a
data set of type ``MODEL`` here, and what is particular to it is a facet of that data set.
"""

import attr
from openlineage.client.facet_v2 import DatasetFacet, RunFacet

PRODUCER = "urn:wukong-ranking"
"""Of every event and facet."""
SCHEMA_ID = f"{PRODUCER}:facets:1-0-0"
PREFIX = "ranking_"
"""Begins the name of a facet of ours, as OpenLineage asks for."""


def _schema(name: str) -> str:
    return f"{SCHEMA_ID}#/$defs/{name}"


@attr.define
class PartitionsDatasetFacet(DatasetFacet):
    """Days of a table that were read or written: each with its content hash and rows if known."""

    days: list[dict[str, object]] = attr.field(factory=list)

    @staticmethod
    def _get_schema() -> str:
        return _schema("PartitionsDatasetFacet")


@attr.define
class FilesDatasetFacet(DatasetFacet):
    """Names of the files of a folder that were read or written."""

    files: list[str] = attr.field(factory=list)

    @staticmethod
    def _get_schema() -> str:
        return _schema("FilesDatasetFacet")


@attr.define
class ModelDatasetFacet(DatasetFacet):
    """Recipe, metrics and descent of a model."""

    recipe: str = ""
    metrics: dict[str, float] = attr.field(factory=dict)
    parents: list[str] = attr.field(factory=list)
    checkpoint: str = ""
    trainedThrough: str = ""  # noqa: N815 - OpenLineage's names are so
    schemaFingerprint: str = ""  # noqa: N815
    config: dict[str, object] = attr.field(factory=dict)
    alias: str = ""

    @staticmethod
    def _get_schema() -> str:
        return _schema("ModelDatasetFacet")


@attr.define
class SchemaRunFacet(RunFacet):
    """The data set of the run, and the fingerprint of the schema by which it works."""

    dataset: str = ""
    fingerprint: str = ""

    @staticmethod
    def _get_schema() -> str:
        return _schema("SchemaRunFacet")


@attr.define
class SkippedRunFacet(RunFacet):
    """Why there was nothing to do."""

    reason: str = ""

    @staticmethod
    def _get_schema() -> str:
        return _schema("SkippedRunFacet")
