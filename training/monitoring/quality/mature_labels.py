"""Which impression each row of the prediction log became, and so which label it got.

By the best that impressions have, in this order: the answer's id and the item; the request's id and
the item; the user, the item and the nearest moment. Rows without an impression are candidates that
were not shown, or whose impression did not land: nothing is known of their label.
"""

import dataclasses
import datetime
import enum
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.prediction_log.columns import SENT_ITEM
from features.prediction_log.hashed_ids import IdHash
from features.schema import LABEL, REQUEST_TIME, Schema

Ints = npt.NDArray[np.int64]
NONE = -1
"""In place of an impression's number, or of the code of an id that is null."""
ANSWER_ID, REQUEST_ID, USER_KEY, HASH_KEY = "answer_id", "request_id", "user_key", "hash_key_id"
LOG_COLUMNS = (
    *(ANSWER_ID, REQUEST_ID, USER_KEY, HASH_KEY, SENT_ITEM, REQUEST_TIME.name),
    *("answered_at", "rank", "model_version", "role"),
)
"""What the join reads of the log."""


class Way(enum.StrEnum):
    """By what rows of the log find their impressions."""

    ANSWER = "answer_id and item"
    REQUEST = "request id and item"
    NEAREST = "user, item and nearest moment"


@dataclasses.dataclass(frozen=True)
class Found:
    """What the join has found."""

    way: Way
    impression: Ints
    """(rows,) number of the row's impression, ``NONE`` where it has none."""
    num_other_key: int
    """Rows whose ids were hashed by a key that is not known here."""


def way_of(schema: Schema) -> Way:
    """By what impressions of a data set can be found; ValueError where they have nothing."""
    if any(column.name == ANSWER_ID for column in schema.impression_columns()):
        return Way.ANSWER
    if schema.request is not None:
        return Way.REQUEST
    if schema.user is not None:
        return Way.NEAREST
    raise ValueError(
        f"schema {schema.name}: impressions have no answer_id, no request and no user; one of them,"
        " or no answer can be joined with its labels"
    )


def impression_columns(schema: Schema) -> list[str]:
    """What the join reads of the examples."""
    return [_own_id(schema), schema.item.name, REQUEST_TIME.name, LABEL]


def find_impressions(
    schema: Schema,
    logged: pa.Table,
    impressions: pa.Table,
    *,
    nearest: datetime.timedelta,
    hashed: IdHash | None,
) -> Found:
    """The impression of each row of the log; of a version's rows at most one has the same.

    Args:
        schema: Of the data set.
        logged: With ``LOG_COLUMNS``.
        impressions: With ``impression_columns``.
        nearest: By moments: the farthest that an impression may be from its request.
        hashed: The key of the log; None: there is none.

    Raises:
        ValueError: All rows were hashed by another key, or impressions have nothing to join by.
    """
    way = way_of(schema)
    impression = np.full(len(logged), NONE, np.int64)
    distance = np.zeros(len(logged), np.int64)
    num_other_key = 0
    for key_id in [None] if way is Way.ANSWER else pc.unique(logged[HASH_KEY]).to_pylist():
        rows = np.arange(len(logged)) if way is Way.ANSWER else _rows_of_key(logged, key_id)
        if key_id is not None and (hashed is None or hashed.key_id != key_id):
            num_other_key += len(rows)
            continue
        of_ids = _hash_of(way, hashed) if key_id is not None and hashed else None
        mine, theirs = _keys(schema, way, logged.take(pa.array(rows)), impressions, of_ids)
        if way is Way.NEAREST:
            moments = (_moments(logged)[rows], _moments(impressions))
            impression[rows], distance[rows] = _nearest(mine, theirs, *moments, within=nearest)
        else:
            impression[rows] = _equal(mine, theirs)
    if len(logged) and num_other_key == len(logged):
        raise ValueError(
            f"RANKING_LOG_HASH_KEY: {hashed.key_id if hashed else 'not set'}; ids of the log were "
            f"hashed by key {pc.unique(logged[HASH_KEY]).to_pylist()}"
        )
    return Found(way, _one_each(logged, impression, distance), num_other_key)


def _own_id(schema: Schema) -> str:
    """The column of impressions by which they are found, besides the item."""
    way = way_of(schema)
    if way is Way.ANSWER:
        return ANSWER_ID
    column = schema.request if way is Way.REQUEST else schema.user
    assert column is not None  # way_of has looked
    return column.name


def _rows_of_key(logged: pa.Table, key_id: str | None) -> Ints:
    of_key = pc.is_null(logged[HASH_KEY]) if key_id is None else pc.equal(logged[HASH_KEY], key_id)
    return np.flatnonzero(of_key.fill_null(False).to_numpy())


def _hash_of(way: Way, hashed: IdHash) -> Callable[[str], str]:
    return hashed.request if way is Way.REQUEST else hashed.user


def _keys(
    schema: Schema,
    way: Way,
    logged: pa.Table,
    impressions: pa.Table,
    of_ids: Callable[[str], str] | None,
) -> tuple[Ints, Ints]:
    """A number for each pair of id and item, on both sides the same for equal pairs."""
    logged_id = {Way.ANSWER: ANSWER_ID, Way.REQUEST: REQUEST_ID, Way.NEAREST: USER_KEY}[way]
    ids = impressions[_own_id(schema)].cast(pa.string())
    if of_ids is not None:
        coded = ids.combine_chunks().dictionary_encode()
        texts = [None if one is None else of_ids(one) for one in coded.dictionary.to_pylist()]
        ids = pa.array(texts, pa.string()).take(coded.indices)
    id_codes = _codes(logged[logged_id], ids)
    items = impressions[schema.item.name].cast(logged[SENT_ITEM].type)
    item_codes = _codes(logged[SENT_ITEM], items)
    num_items = max((int(codes.max(initial=0)) for codes in item_codes), default=0) + 1
    mine, theirs = (
        np.where((own >= 0) & (item >= 0), own * num_items + item, NONE)
        for own, item in zip(id_codes, item_codes, strict=True)
    )
    return mine, theirs


def _codes(left: pa.ChunkedArray, right: pa.Array) -> tuple[Ints, Ints]:
    """A number for each value of two columns, ``NONE`` for null."""
    both = pa.concat_arrays([*_flat(left).chunks, *_flat(right).chunks]).dictionary_encode()
    codes = both.indices.fill_null(NONE).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes[: len(left)], codes[len(left) :]


def _flat(values: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


def _moments(rows: pa.Table) -> Ints:
    """Microseconds since the epoch."""
    moments = rows[REQUEST_TIME.name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    values: Ints = moments.to_numpy()
    return values


def _equal(mine: Ints, theirs: Ints) -> Ints:
    """The first impression with the same key as each row."""
    keys, first = np.unique(theirs, return_index=True)
    if not len(keys):
        return np.full(len(mine), NONE, np.int64)
    place = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
    return np.where((mine != NONE) & (keys[place] == mine), first[place], NONE)


def _nearest(
    mine: Ints, theirs: Ints, asked: Ints, shown: Ints, *, within: datetime.timedelta
) -> tuple[Ints, Ints]:
    """The impression with the same key that is nearest to each row, and how far it is.

    Of two that are equally far it is the later one: what is shown is shown after its answer.
    """
    limit = within // datetime.timedelta(microseconds=1)
    key, moment = np.concatenate([theirs, mine]), np.concatenate([shown, asked])
    is_row = np.arange(len(key)) >= len(theirs)
    order = np.lexsort((is_row, moment, key))
    places = np.arange(len(order))
    is_shown = ~is_row[order]
    before = np.maximum.accumulate(np.where(is_shown, places, -1))
    after = np.minimum.accumulate(np.where(is_shown, places, len(order))[::-1])[::-1]
    found = np.full(len(key), NONE, np.int64)
    farthest = np.full(len(key), limit + 1, np.int64)
    for neighbour in (after, before):
        is_there = (neighbour >= 0) & (neighbour < len(order)) & ~is_shown
        rows, theirs_of = order[is_there], order[neighbour[is_there]]
        far = np.abs(moment[rows] - moment[theirs_of])
        is_nearer = (key[rows] == key[theirs_of]) & (key[rows] != NONE) & (far < farthest[rows])
        found[rows[is_nearer]] = theirs_of[is_nearer]
        farthest[rows[is_nearer]] = far[is_nearer]
    return found[len(theirs) :], farthest[len(theirs) :]


def _one_each(logged: pa.Table, impression: Ints, distance: Ints) -> Ints:
    """Without the rows of a version that another of its rows outdoes at the same impression.

    The nearest row has it; then that of the later answer, as a caller that asks again shows what it
    got last; then the one of the better rank.
    """
    answered = logged["answered_at"].cast(pa.int64()).to_numpy()
    scorer = _scorers(logged)
    order = np.lexsort((logged["rank"].to_numpy(), -answered, distance, impression, scorer))
    same = (np.diff(impression[order]) == 0) & (np.diff(scorer[order]) == 0)
    outdone = order[1:][same]
    kept = impression.copy()
    kept[outdone] = NONE
    return kept


def _scorers(logged: pa.Table) -> Ints:
    """A number for each version and role."""
    names = pc.binary_join_element_wise(logged["model_version"], logged["role"], "\n")
    codes: Ints = _codes(_flat(names), pa.array([], pa.string()))[0]
    return codes
