"""The generated data set with declared tables by ids, attributes and context, for a replay."""

import dataclasses

from support.features.declared import aggregate, declared, history, named, with_tables

from features.schema import Column, Dtype, Kind, Schema

KINDS = (
    aggregate("shown", "impressions", "count"),
    aggregate("ctr", "click", "rate"),
    aggregate("odds", "true_probability", "mean", scale=0.001),
    aggregate("last", "click", "recency"),
    aggregate("items", "impressions", "distinct", distinct_of="item_id"),
)
KEYS = {
    "category": ("item_category",),
    "pair": ("user_id", "item_category"),
    "segment_device": ("user_segment", "device"),
}
LENGTH = 4
INTERESTS = declared(
    "interests_daily",
    ("user_id",),
    (),
    windows_days=(),
    histories=(
        history("clicked", "click", LENGTH, "item_id", "item_category", "age"),
        history("seen", "impressions", 2 * LENGTH, "age", "item_id", "device"),
    ),
)
VISITORS = history("category_visitors", "impressions", LENGTH, "user_id", "age")
TABLES = [
    *(
        declared(
            f"{name}_daily",
            by,
            named(name, KINDS),
            histories=(VISITORS,) if name == "category" else (),
        )
        for name, by in KEYS.items()
    ),
    INTERESTS,
]
VECTOR = Column(
    name="item_vector",
    dtype=Dtype.FLOAT64_LIST,
    kind=Kind.DENSE,
    max_length=4,
    doc="An embedding of the item.",
)


def with_vectors(schema: Schema) -> Schema:
    *others, items = schema.tables
    wider = dataclasses.replace(items, columns=(*items.columns, VECTOR))
    return dataclasses.replace(schema, tables=(*others, wider))


SCHEMA = with_vectors(with_tables(*TABLES).without_push())
