"""Files with attributes of users and items: whether they are there, and know those of the log."""

from collections.abc import Iterator

from features.datasets.landed_format import LandedFormat
from features.datasets.schema_files.build import DataSet
from features.draft.checks.findings import Finding, Level
from features.draft.checks.landed import Landed
from features.draft.log.sample import SEPARATORS, open_sample, quoted, text
from features.places import Place
from features.schema import Dtype, FeatureTable, TableKind
from features.spark.landed_columns import header_of, integers_among

_MOST_ROWS = 1 << 62
_MOST_UNKNOWN = 0.05


def attribute_files(data_set: DataSet, landing: Place, landed: Landed) -> Iterator[Finding]:
    """What would go wrong with the files of attributes, of data sets whose files have a format."""
    source = data_set.source
    if source.format not in {*SEPARATORS, "jsonl", "parquet"}:
        return
    for table in data_set.schema.tables_of(TableKind.ATTRIBUTES):
        path = landing / f"{table.role}s.{source.landed_suffix}"
        key = f"tables.{data_set.schema.tables.index(table)}"
        if problem := _problem(data_set, path, table):
            yield Finding(Level.ERROR, key, "unreadable-file", problem)
        else:
            yield from _unknown(data_set, path, table, landed, key)


def _problem(data_set: DataSet, path: Place, table: FeatureTable) -> str:
    """Why the job would refuse a file; empty where it would not."""
    if not path.exists():
        return f"{path} has not landed; it has what is known of {table.role}s"
    of_files = LandedFormat(data_set.schema, data_set.source)
    columns = (data_set.schema.entity(table.role), *table.columns)
    names = {column.name: of_files.landed_name(column) for column in columns}
    separator = SEPARATORS.get(str(data_set.source.format))
    try:
        if separator:
            header_of(path, separator, names)
        elif data_set.source.format == "parquet":
            integers_among(path, names, {c.name: of_files.landed_type(c) for c in columns})
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _unknown(
    data_set: DataSet, path: Place, table: FeatureTable, landed: Landed, key: str
) -> Iterator[Finding]:
    """Ids that are there twice, and impressions of users or items that the file lacks."""
    entity = data_set.schema.entity(table.role)
    try:
        of_role = open_sample(landed.connection, [path], max_rows=_MOST_ROWS, table=table.name)
    except ValueError as error:
        yield Finding(Level.ERROR, key, "unreadable-file", str(error))
        return
    landed_name = LandedFormat(data_set.schema, data_set.source).landed_name(entity)
    kind = "BIGINT" if entity.dtype is Dtype.INT64 else "VARCHAR"
    ids = f"(SELECT try_cast({quoted(landed_name)} AS VARCHAR) AS id FROM {of_role.table})"
    (repeated,) = landed.row(
        f"SELECT count(*) FROM (SELECT id FROM {ids} WHERE id <> '' GROUP BY id "
        "HAVING count(*) > 1)"
    )
    if repeated:
        said = f"{path}: {repeated:,.0f} values of {landed_name} are there more than once"
        yield Finding(Level.ERROR, key, "repeated-id", said)
    name = quoted(entity.name)
    known = f"{name} IN (SELECT try_cast(id AS {kind}) FROM {ids} WHERE id IS NOT NULL)"
    rows, unknown, example = landed.row(
        "SELECT count(*), count(*) FILTER (NOT known), min(id) FILTER (NOT known) FROM "
        f"(SELECT {name}::VARCHAR AS id, {known} AS known FROM {landed.table} "
        f"WHERE {name} IS NOT NULL)"
    )
    if rows and unknown:
        share = unknown / rows
        level = Level.WARNING if share > _MOST_UNKNOWN else Level.INFO
        said = (
            f"{unknown:,.0f} of {rows:,.0f} rows ({share:.2%}) are of {table.role}s that "
            f"{path.name} lacks, such as {text(str(example))}: their attributes are missing"
        )
        yield Finding(level, key, "unknown-id", said)
