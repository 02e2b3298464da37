"""What a data set's source lacks in this deployment, in words, before anything is read."""

import os
from collections.abc import Mapping

from features.datasets.catalog import has_push
from features.datasets.landed_format import LandedFormat
from features.datasets.landed_table import LandedTable
from features.datasets.schema_files.build import DataSet
from features.places import Place
from features.runbooks import RunbookError
from features.schema import TableKind
from features.spark.topic import why_no_connector


def problems_of_source(
    data_set: DataSet, landing: Place, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Why nothing could be read of a data set's source; empty where nothing is known.

    Args:
        data_set: The data set.
        landing: Folder in which all data sets land.
        environment: With the variables of the deployment.
    """
    source, schema = data_set.source, data_set.schema
    problems = []
    if source.format == "kafka":
        if reason := why_no_connector(environment):
            problems.append(f"source.format kafka: {reason}")
        if has_push(environment) and schema.tables_of(TableKind.STATE):
            problems.append(
                "source.format kafka: nothing pushes users from a topic, and their state would "
                "count before it is online; set RANKING_PUSH=off"
            )
    if source.is_table:
        table = LandedTable(LandedFormat(schema, source), landing / schema.name, {})
        try:
            table.files_since(schema.first_day)
        except RunbookError as error:
            problems.append(f"source.format {source.format}: {error}")
    return problems
