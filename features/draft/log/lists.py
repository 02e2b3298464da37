"""Texts of tsv and csv that are lists of words, such as ``Action|Drama``."""

import dataclasses

from features.draft.log.profile import Profile
from features.draft.log.sample import Sample, quoted, text
from features.schema import Dtype

_SIGNS = ("|", ";", ",", " ")
_NAMED = ("genre", "tag", "categor", "topic", "keyword", "interest", "label")
"""Parts of names of columns whose spaces may be between words of a list."""
_MOST_WORDS = 200
_FEWEST_LISTS = 0.1


@dataclasses.dataclass(frozen=True)
class Words:
    """The words of a column's lists."""

    separator: str
    words: tuple[str, ...]
    longest: int


def words_of(sample: Sample, column: Profile) -> Words | None:
    """The words of a column of texts that are lists; None where they are none."""
    if sample.format not in {"csv", "tsv"} or column.dtype is not Dtype.STRING or not column.values:
        return None
    is_named = any(part in column.landed.lower() for part in _NAMED)
    for sign in _SIGNS:
        if sign in "| ;" and (is_named or sign != " "):
            found = _split(sample, column, sign)
            if found:
                return found
    return None


def _split(sample: Sample, column: Profile, sign: str) -> Words | None:
    """The words between a sign, where many values have it and few words differ."""
    name = quoted(column.landed)
    parts = f"list_filter(string_split({name}, {text(sign)}), x -> trim(x) <> '')"
    lists, longest = sample.connection.execute(
        f"SELECT count(*) FILTER (len({parts}) > 1), max(len({parts})) FROM {sample.table}"
    ).fetchone() or (0, 0)
    if lists < _FEWEST_LISTS * column.values or longest > 50:
        return None
    found = sample.connection.execute(
        f"SELECT DISTINCT trim(word) FROM (SELECT unnest({parts}) AS word FROM {sample.table}) "
        f"ORDER BY 1 LIMIT {_MOST_WORDS + 1}"
    ).fetchall()
    is_list = len(found) <= _MOST_WORDS and len(found) < column.distinct * 2
    return Words(sign, tuple(str(word) for (word,) in found), int(longest)) if is_list else None
