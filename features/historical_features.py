"""Features as they were usable at a moment, for people: Feast's as-of join that cannot leak."""

import tempfile
from collections.abc import Mapping, Sequence

import pandas as pd

from features.lake.snapshot import snapshot
from features.places import Place, place, root
from features.schema import EVENT_TIMESTAMP, Schema


def historical_features(
    schema: Schema,
    entity_frame: pd.DataFrame,
    *,
    features: Sequence[str] | None = None,
    versions: Mapping[str, int] | None = None,
    lake: Place | None = None,
) -> pd.DataFrame:
    """The features of users and items as they could be used at each row's moment.

    A row of a table is seen from the moment on that it counts from, not from the one that it is
    about: a correction that counts later is not seen before.

    Args:
        schema: The data set's schema.
        entity_frame: A row for each question: ids, each under its column's name, and
            ``event_timestamp`` (UTC where it names no zone). Other columns stay.
        features: Names such as ``item_daily:item_ctr_7d``; None: all of the tables whose id the
            frame has.
        versions: Version of each table that is not to be read as it is now.
        lake: The lakes of all data sets; None: ``lake`` below the root of all data.

    Returns:
        The frame's rows, in any order, with a column for each feature; NaN where there is no row.

    Raises:
        ValueError: A row has no timestamp, the frame no id, or a version's files are gone.
    """
    from features.online_store.feast_store import offline_store
    from features.spark.session import start_session

    if EVENT_TIMESTAMP not in entity_frame:
        raise ValueError(f"entity frame: no column {EVENT_TIMESTAMP}; each row needs its moment")
    if missing := int(entity_frame[EVENT_TIMESTAMP].isna().sum()):
        raise ValueError(
            f"entity frame: {missing} of {len(entity_frame)} rows have no {EVENT_TIMESTAMP}; "
            "without one a row would see the future"
        )
    lake = root() / "lake" if lake is None else place(lake)
    for table, version in (versions or {}).items():
        snapshot(lake / schema.name / table, version).require_files()
    asked = features or [
        f"{table.name}:{column.name}"
        for table in schema.tables
        if schema.key_of(table).name in entity_frame
        for column in table.columns
    ]
    if not asked:
        ids = ", ".join(column.name for _, column in schema.entities())
        raise ValueError(f"entity frame: no id; one of {ids}")
    start_session("historical features")
    with tempfile.TemporaryDirectory() as folder:
        store = offline_store(schema, place(folder), lake, versions or {})
        answer = store.get_historical_features(
            entity_frame, list(asked), filter_by_created_timestamp=True
        )
        found: pd.DataFrame = answer.to_df()
    return found
