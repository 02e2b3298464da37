"""One ranked answer of the running endpoint: a real user, and what they were shown, by name."""

import collections
import datetime

from features.lake.snapshot import snapshot
from features.places import Place
from features.schema import REQUEST_TIME, Column, Dtype, Role, Schema, TableKind
from infra.local.network import JsonObject, call

NUM_CANDIDATES = 15
_DATATYPES = {Dtype.INT64: "INT64", Dtype.FLOAT64: "FP64", Dtype.STRING: "BYTES"}


def ranked_answer(schema: Schema, *, lake: Place, day: datetime.date, endpoint: str) -> JsonObject:
    """Rank the candidates that a user of a day had, once all features of the day are available.

    Raises:
        ValueError: The day has no impressions.
    """
    rows = _impressions(schema, lake / schema.name / "impressions", day)
    moment = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    moment += datetime.timedelta(days=1) + max(table.delay for table in schema.tables)
    body = {"inputs": _inputs(schema, rows, moment)}
    answer = call(f"{endpoint}/v2/models/{schema.name}/infer", method="POST", body=body)
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    titles = _titles(schema, lake / schema.name)
    ranked = sorted(zip(outputs["score"], rows, strict=True), key=lambda pair: -pair[0])
    return {
        "user": rows[0][schema.user.name] if schema.user else None,
        "as_of": moment.isoformat(),
        "model_version": answer["model_version"],
        "items": [
            {
                "rank": rank,
                "item": row[schema.item.name],
                "title": titles.get(row[schema.item.name], ""),
                "score": round(score, 4),
                # None of a label that comes later.
                schema.label.column: row.get(schema.label.column),
            }
            for rank, (score, row) in enumerate(ranked, start=1)
        ],
        "request": body,
    }


def _impressions(schema: Schema, table: Place, day: datetime.date) -> list[JsonObject]:
    """A day's impressions of its most active user, each item once."""
    rows = snapshot(table).read(day).to_pylist()
    if not rows:
        raise ValueError(f"{table} on {day}: no rows; the answer needs a day with impressions")
    if schema.user is not None:
        name = schema.user.name
        users = collections.Counter(row[name] for row in rows)
        # The lowest id among equals, so that the answer is the same each time.
        busiest = min(users, key=lambda user: (-users[user], user))
        rows = [row for row in rows if row[name] == busiest]
    by_item = {row[schema.item.name]: row for row in rows}
    return [by_item[item] for item in sorted(by_item)][:NUM_CANDIDATES]


def _inputs(schema: Schema, rows: list[JsonObject], moment: datetime.datetime) -> list[JsonObject]:
    inputs = [_tensor(schema.item, [row[schema.item.name] for row in rows])]
    if schema.user is not None:
        inputs.append(_tensor(schema.user, [rows[0][schema.user.name]]))
    for column in schema.context:
        values = [row[column.name] for row in rows]
        # A request has no missing values, and a column that serving fixes need not be there.
        if None not in values and column.neutral is None:
            inputs.append(_tensor(column, values))
    microseconds = int(moment.timestamp() * 1_000_000)
    time = {"name": REQUEST_TIME.name, "shape": [1], "datatype": "INT64", "data": [microseconds]}
    return [*inputs, time]


def _tensor(column: Column, values: list[object]) -> JsonObject:
    return {
        "name": column.name,
        "shape": [len(values)],
        "datatype": _DATATYPES[column.dtype],
        "data": values,
    }


def _titles(schema: Schema, lake: Place) -> dict[object, str]:
    if not schema.item_title:
        return {}
    tables = [t for t in schema.tables_of(TableKind.ATTRIBUTES) if t.role is Role.ITEM]
    newest = snapshot(lake / tables[0].name)
    rows = newest.read(newest.days[-1]).to_pylist()
    return {row[schema.item.name]: row[schema.item_title] or "" for row in rows}
