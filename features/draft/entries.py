"""Columns of a draft: what a schema file says of each, and why."""

import math

from features.draft.commented_yaml import Guess
from features.draft.log.lists import Words
from features.draft.log.names import words
from features.draft.log.profile import Profile
from features.schema import Dtype

Entry = dict[str, object]
_HASH_ROWS_PER_ID = 10
_MOST_HASH_ROWS = 10_000_000
_MOST_NUM_IDS = 10_000_000
_HEADROOM = 1.5
_LONG_TAIL = 100


def collision_share(ids: int, rows: int) -> float:
    """Share of ids that are expected to share their row of a hashed table with another id."""
    return -math.expm1((ids - 1) * math.log1p(-1 / rows)) if rows > 1 else float(ids > 1)


def rounded_up(number: float) -> int:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10 ** max(math.floor(math.log10(max(number, 1))), 0)
    return next(int(step * power) for step in (1, 2, 5, 10) if step * power >= number)


def entity(column: Profile, name: str, *, role: str, why: str, is_input: bool) -> Entry:
    """The id of a user or an item."""
    entry: Entry = {"name": Guess(name, f"the {role}, {why}"), "type": str(column.dtype)}
    if not is_input:
        entry["kind"] = Guess(
            "stored",
            "no input: most are there on one day alone, so nothing is learnt of an id. With kind "
            "sparse and a hash_size it is one",
        )
    else:
        entry["kind"] = "sparse"
        entry |= table_size(column)
    if column.dtype is Dtype.INT64 and (column.low or 0) >= 0:
        entry["minimum"] = 0
    entry["doc"] = f"The {role}, as the log names it."
    return entry


def table_size(column: Profile) -> Entry:
    """Size of an embedding table for ids: the ids themselves if they are dense, else hashed."""
    high, ids = column.high or 0, column.distinct
    is_dense = column.dtype is not None and column.dtype.element is Dtype.INT64
    if is_dense and (column.low or 0) >= 0 and high < min(4 * ids + 100, _MOST_NUM_IDS):
        size = rounded_up(_HEADROOM * (high + 1))
        said = f"{ids:,} ids were seen, up to {high:.0f}; an id of {size:,} or more has no row"
        return {"num_ids": Guess(size, said)}
    rows = min(rounded_up(_HASH_ROWS_PER_ID * ids), _MOST_HASH_ROWS)
    share = collision_share(ids, rows)
    said = f"{ids:,} ids were seen; of so many {share:.1%} share their row with another"
    return {"hash_size": Guess(rows, said)}


def stored(column: Profile, doc: str, why: str = "") -> Entry:
    """A column that is no input."""
    entry: Entry = {"type": Guess(str(column.dtype), why) if why else str(column.dtype)}
    entry |= _limits(column)
    entry["doc"] = doc
    return entry


def input_of(column: Profile, doc: str, why: str = "", listed: Words | None = None) -> Entry:
    """A column that is an input, of the kind that its values suggest."""
    if listed:
        return _list_of_words(column, doc, listed)
    dtype = column.dtype
    entry: Entry = {"type": Guess(str(dtype), why) if why else str(dtype)}
    if dtype is None or dtype.is_list or dtype is Dtype.STRING:
        entry |= {"kind": "sparse", **_words_or_size(column)}
    else:
        entry["kind"] = _kind_of_number(column)
    entry |= _limits(column)
    entry["doc"] = doc
    return entry


def position(column: Profile, doc: str) -> Entry:
    """The place in a list: learnt of, for what is seen first is clicked more, and not served."""
    low, high = int(column.low or 0), int(column.high or 0)
    said = f"the place in a list, {low} to {high} were seen; it explains clicks, whatever is there"
    entry: Entry = {"type": Guess("int64", said), "kind": "sparse"}
    entry["num_ids"] = rounded_up(2 * (high + 1))
    entry["neutral"] = Guess(low, "served requests have no place yet: all get this one")
    return entry | {"minimum": 0, "doc": doc}


def doc_of(landed: str, owner: str) -> str:
    """A description to begin with."""
    return f"{' '.join(words(landed)).capitalize()} of {owner}, as the log has it."


def _limits(column: Profile) -> Entry:
    entry: Entry = {}
    if column.dtype in {Dtype.INT64, Dtype.FLOAT64} and (column.low or 0) >= 0 and column.values:
        entry["minimum"] = Guess(0, f"{column.low:g} to {column.high:g} were seen")
    if column.dtype is not None and column.dtype.is_list:
        entry["max_length"] = Guess(rounded_up(2 * column.longest), f"{column.longest} were seen")
    if column.missing or column.unreadable:
        said = f"missing in {column.missing:,} of {column.rows:,} rows"
        if column.unreadable:
            said += f", and {column.unreadable:,} values cannot be read as {column.dtype}"
        entry["nullable"] = Guess(True, said)
    return entry


def _words_or_size(column: Profile) -> Entry:
    is_text = column.dtype in {Dtype.STRING, Dtype.STRING_LIST}
    if (
        is_text
        and (column.is_small_text or column.dtype is Dtype.STRING_LIST)
        and _all_named(column)
    ):
        said = f"all {column.distinct} values that were seen; a row with another goes to quarantine"
        return {"vocabulary": Guess(sorted(column.frequent), said)}
    return table_size(column)


def _all_named(column: Profile) -> bool:
    return 0 < column.distinct == len(column.frequent)


def _list_of_words(column: Profile, doc: str, listed: Words) -> Entry:
    seen = f"a text of words with {listed.separator!r} between them; at most {listed.longest}"
    entry: Entry = {"type": Guess("list<string>", seen), "kind": "sparse"}
    said = f"all {len(listed.words)} words that were seen; a row with another goes to quarantine"
    entry["vocabulary"] = Guess(list(listed.words), said)
    entry["max_length"] = rounded_up(2 * listed.longest)
    entry["doc"] = doc
    return entry


def _kind_of_number(column: Profile) -> Guess | str:
    low, high = column.low or 0, column.high or 0
    if column.dtype is Dtype.INT64 and low >= 0 and high > max(_LONG_TAIL, 10 * low):
        return Guess("count", f"whole numbers up to {high:g}: a long tail, so its logarithm enters")
    if column.dtype is Dtype.FLOAT64 and low > 0 and high < 1:
        return Guess("rate", f"all between 0 and 1 ({low:g} to {high:g}), so its log odds enter")
    return "dense"
