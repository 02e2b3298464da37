"""A data set in words and as JSON: columns, tables and inputs, as its schema file resolves."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from features.datasets.catalog import deployed
from features.datasets.feature_reference import values_in_words
from features.datasets.schema_files import discovery
from features.datasets.schema_files.build import DataSet
from features.datasets.schema_files.source_models import SourceEntry
from features.datasets.schema_files.values import span_text
from features.schema import Column, FeatureTable, Immature, Label
from features.schema.fingerprints import impressions_fingerprint, rows_fingerprint


class ColumnJson(TypedDict):
    """A column; ``values`` are its limits in words."""

    name: str
    type: str
    kind: str
    values: str
    doc: str


class ImmatureJson(TypedDict):
    """How rows are learnt before their label is final."""

    correction: str
    min_known_share: float
    delay_days: int
    judged_share: float
    """Of requests, which are learnt when they are mature, never before."""


class LabelJson(TypedDict):
    """A label: positive where its column has at least ``positive_from``.

    One that comes later has columns in ``join``; else its window is 0.
    """

    name: str
    column: str
    positive_from: float
    window_seconds: float
    """0 where the label is in the row."""
    join: list[str]
    delay_seconds: float
    immature: ImmatureJson | None


class TableJson(TypedDict):
    """A feature table; without ``ttl_seconds`` its rows never expire."""

    name: str
    kind: str
    of: str
    doc: str
    ttl_seconds: float | None
    delay_seconds: float
    columns: list[ColumnJson]


class DataSetJson(TypedDict):
    """A data set, in the deployment that the environment describes."""

    name: str
    doc: str
    licence: str
    file: str
    fingerprint: str
    rows_fingerprint: str
    impressions_fingerprint: str
    first_day: str
    last_day: str | None
    holdout_days: int
    labels: list[LabelJson]
    target: str
    maturity_days: int
    request: str | None
    landed_suffix: str
    impressions: list[ColumnJson]
    tables: list[TableJson]
    sparse_inputs: list[str]
    dense_inputs: list[str]


def described(data_set: DataSet) -> DataSetJson:
    """A data set as JSON."""
    schema = deployed(data_set.schema)
    return {
        "name": schema.name,
        "doc": schema.doc,
        "licence": schema.licence,
        "file": str(data_set.path),
        "fingerprint": schema.fingerprint(),
        "rows_fingerprint": rows_fingerprint(schema),
        "impressions_fingerprint": impressions_fingerprint(schema),
        "first_day": str(schema.first_day),
        "last_day": str(schema.last_day) if schema.last_day else None,
        "holdout_days": schema.holdout_days,
        "labels": [_label(label) for label in schema.labels],
        "target": schema.target,
        "maturity_days": schema.maturity_days,
        "request": schema.request.name if schema.request else None,
        "landed_suffix": data_set.source.landed_suffix,
        "impressions": _columns(schema.impression_columns()),
        "tables": [_table(table) for table in schema.tables],
        "sparse_inputs": [column.name for column in schema.sparse_inputs()],
        "dense_inputs": list(schema.dense_inputs()),
    }


def in_words(data_set: DataSet) -> str:
    """The same for people."""
    found, schema = described(data_set), deployed(data_set.schema)
    landed = data_set.source
    user = schema.user.name if schema.user else "users have no id"
    lines = [
        f"{found['name']}: {found['doc']}",
        f"  file         {found['file']}",
        f"  licence      {found['licence']}",
        f"  fingerprint  {found['fingerprint']} (rows {found['rows_fingerprint']}, impressions "
        f"{found['impressions_fingerprint']})",
        f"  days         {found['first_day']} to {found['last_day'] or 'now'}, the newest "
        f"{found['holdout_days']} held out",
        *(
            f"  {'target' if label.name == schema.target else 'label '}       {label.name}: "
            f"{_meaning(label)}"
            for label in schema.labels
        ),
        f"  user, item   {user}, {schema.item.name}",
        f"  lands as     {_lands_as(landed)}",
        "",
        "impressions",
        *_rows(found["impressions"]),
    ]
    for table, shown in zip(schema.tables, found["tables"], strict=True):
        expires = f"expires after {span_text(table.ttl)}" if table.ttl else "never expires"
        counts = f"counts from {span_text(table.delay)} after its event"
        lines += ["", f"{table.name}: {table.doc}", f"  {counts}, {expires}"]
        lines += _rows(shown["columns"])
    sparse, dense = found["sparse_inputs"], found["dense_inputs"]
    lines += [
        "",
        f"{len(sparse)} sparse inputs: {', '.join(sparse)}",
        f"{len(dense)} dense inputs: {', '.join(dense)}",
    ]
    return "\n".join(lines)


def _lands_as(source: SourceEntry) -> str:
    """Where impressions land, and when a day has."""
    if source.kafka:
        return f"messages of {source.kafka.topic} at {source.kafka.servers}"
    if source.is_table:
        by = f"partition {source.partition}" if source.partition else f"time {source.time.column}"
        return f"{source.format} table {source.path or 'impressions'}, a day by its {by}"
    with_marker = f", with {source.ready.marker}" if source.ready else ""
    read_by = f", read by {source.reader}" if source.reader else ""
    return f"impressions/YYYY-MM-DD.{source.landed_suffix}{with_marker}{read_by}"


def listing() -> dict[str, str]:
    """The files of all data sets by name; ValueError where two have one name."""
    return {name: str(path) for name, path in sorted(discovery.find().files.items())}


def listing_in_words() -> str:
    """The same for people, with where they were looked for."""
    width = max(map(len, listing()), default=0)
    lines = [f"{name.ljust(width)}  {path}" for name, path in listing().items()]
    return "\n".join([*lines, "", "looked in:", *discovery.find().places])


def _columns(columns: Iterable[Column]) -> list[ColumnJson]:
    return [
        {
            "name": column.name,
            "type": str(column.dtype),
            "kind": str(column.kind),
            "values": values_in_words(column),
            "doc": column.doc,
        }
        for column in columns
    ]


def _label(label: Label) -> LabelJson:
    return {
        "name": label.name,
        "column": label.column,
        "positive_from": label.positive_from,
        "window_seconds": label.window.total_seconds(),
        "join": list(label.join),
        "delay_seconds": label.delay.total_seconds(),
        "immature": _immature(label.immature) if label.immature else None,
    }


def _immature(immature: Immature) -> ImmatureJson:
    return {
        "correction": str(immature.correction),
        "min_known_share": immature.min_known_share,
        "delay_days": immature.delay_days,
        "judged_share": Immature.JUDGED_PERCENT / 100,
    }


def _meaning(label: Label) -> str:
    known = f"known {span_text(label.known_after)} after the impression"
    if not label.comes_later:
        return f"{label.column} of {label.positive_from:g} or more, {known}"
    event = f"an event of the same {', '.join(label.join)} within {span_text(label.window)}"
    return f"{event}, {known}{_learnt_before(label.immature) if label.immature else ''}"


def _learnt_before(immature: Immature) -> str:
    return (
        f"; learnt before by {immature.correction}, from the age on at which "
        f"{immature.min_known_share:.0%} of events are known, by the delays of "
        f"{immature.delay_days} mature days; {Immature.JUDGED_PERCENT} % of requests judge"
    )


def _table(table: FeatureTable) -> TableJson:
    return {
        "name": table.name,
        "kind": str(table.kind),
        "of": " and ".join(table.by) or str(table.role),
        "doc": table.doc,
        "ttl_seconds": table.ttl.total_seconds() if table.ttl else None,
        "delay_seconds": table.delay.total_seconds(),
        "columns": _columns((*table.columns, *table.derived_columns)),
    }


def _rows(columns: Sequence[ColumnJson]) -> Iterator[str]:
    """A line for each column, in columns."""
    cells = [(c["name"], c["type"], c["kind"], c["values"], c["doc"]) for c in columns]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  " + "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
