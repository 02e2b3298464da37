"""Which column of a sample is the user, the item, a label: by names first, then by statistics."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from features.draft.log import moments, names
from features.draft.log.moments import Moments
from features.draft.log.profile import Profile
from features.draft.log.sample import Sample, quoted
from features.schema import Dtype

_ID_TYPES = {Dtype.INT64, Dtype.STRING}
_FEWEST_REPEATS = 1.5
"""Rows of an id, on average, where no name says that it is one."""
_FEWEST_IDS = 8
_MOST_GRADES = 20


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A column for a role, and why."""

    column: Profile
    why: str


@dataclasses.dataclass(frozen=True)
class Roles:
    """What the columns of a sample are."""

    time: Moments | None
    user: Chosen | None
    item: Chosen | None
    request: Chosen | None
    example: Chosen | None
    """A column whose every value is another one."""
    labels: tuple[Chosen, ...]
    """The target first."""
    key: tuple[str, ...]
    """Names in the files of the columns that tell impressions apart, where no column does."""
    repeated: int
    """Rows whose key another row has."""


def guess(sample: Sample, columns: Mapping[str, Profile]) -> Roles:
    """The roles of a sample's columns."""
    time = moments.find(sample, columns.values())
    left = {name: one for name, one in columns.items() if not time or name != time.landed}

    def take(chosen: Chosen | None) -> Chosen | None:
        if chosen:
            left.pop(chosen.column.landed)
        return chosen

    labels = _labels(left.values())
    for label in labels:
        take(label)
    user = take(_by_name(left.values(), names.USER, most_repeats=True))
    item = take(_by_name(left.values(), names.ITEM, most_repeats=True))
    example = take(_example(left.values()))
    request = take(_request(left.values()))
    item = item or take(_only_id(left.values(), "item"))
    user = user or (take(_only_id(left.values(), "user")) if item else None)
    if not labels:
        labels = _binary(left.values())
    key, repeated = ((), 0) if example else _key(sample, request, user, item, time)
    return Roles(time, user, item, request, example, labels, key, repeated)


def _by_name(
    columns: Iterable[Profile], wanted: Collection[str], *, most_repeats: bool
) -> Chosen | None:
    """The column with a word in its name: an id before another, few of many before unique ones."""
    found = [
        one for one in columns if one.dtype in _ID_TYPES and names.has_word(one.landed, wanted)
    ]
    found = [one for one in found if names.is_id(one.landed) or _names_only(one.landed, wanted)]
    if not found:
        return None
    best = max(found, key=lambda one: (names.is_id(one.landed), most_repeats and one.mean_repeats))
    return Chosen(best, f"by its name; {best.distinct:,} in {best.values:,} rows")


def _names_only(name: str, wanted: Collection[str]) -> bool:
    """Whether a name is nothing but the word, such as ``article``."""
    found = names.words(name)
    return len(found) == 1 and found[0].removesuffix("s") in {w.removesuffix("s") for w in wanted}


def _labels(columns: Iterable[Profile]) -> tuple[Chosen, ...]:
    """Columns of 0 and 1, or of grades, whose names say that they are answers."""
    binary = [
        one for one in columns if one.is_binary and names.has_word(one.landed, names.POSITIVE)
    ]
    if binary:
        binary.sort(key=lambda one: -_positives(one))
        said = "named as an answer, with 0 and 1 alone"
        return tuple(Chosen(one, f"{said}; {_positives(one):,} positives") for one in binary)
    grades = [one for one in columns if _is_grade(one) and names.has_word(one.landed, names.RATING)]
    return tuple(
        Chosen(one, f"named as a rating, from {one.low:g} to {one.high:g}") for one in grades[:1]
    )


def _positives(column: Profile) -> int:
    return column.frequent.get("1", 0) + column.frequent.get("1.0", 0)


def _is_grade(column: Profile) -> bool:
    is_number = column.dtype in {Dtype.INT64, Dtype.FLOAT64}
    return is_number and 2 <= column.distinct <= _MOST_GRADES


def _binary(columns: Iterable[Profile]) -> tuple[Chosen, ...]:
    """The one column of 0 and 1 where no name says what is an answer."""
    found = [one for one in columns if one.is_binary]
    if len(found) != 1:
        return ()
    return (Chosen(found[0], "the only column with 0 and 1 alone; no name says it"),)


def _example(columns: Iterable[Profile]) -> Chosen | None:
    found = [one for one in columns if one.is_unique and one.dtype in _ID_TYPES]
    named = [one for one in found if names.has_word(one.landed, names.EXAMPLE)]
    plain = [one for one in found if names.words(one.landed) in (["id"], ["uuid"])]
    best = next(iter([*named, *plain]), None)
    return Chosen(best, "no value of it is there twice") if best else None


def _request(columns: Iterable[Profile]) -> Chosen | None:
    return next(
        (
            Chosen(one, f"by its name; {one.mean_repeats:.3g} rows of a request on average")
            for one in columns
            if one.dtype in _ID_TYPES
            and (names.is_id(one.landed) or one.is_uuid)
            and names.has_word(one.landed, names.REQUEST)
        ),
        None,
    )


def _only_id(columns: Iterable[Profile], role: str) -> Chosen | None:
    """The one column that seems to have ids of something that is there again and again."""
    found = [
        one
        for one in columns
        if one.dtype in _ID_TYPES
        and names.is_id(one.landed)
        and one.distinct >= _FEWEST_IDS
        and one.mean_repeats >= _FEWEST_REPEATS
    ]
    if len(found) != 1:
        return None
    said = (
        f"the only other column of ids ({found[0].distinct:,}); no name says that it is the {role}"
    )
    return Chosen(found[0], said)


def _key(
    sample: Sample,
    request: Chosen | None,
    user: Chosen | None,
    item: Chosen | None,
    time: Moments | None,
) -> tuple[tuple[str, ...], int]:
    """The fewest columns that tell rows apart, else all that could, and the rows they do not."""
    who, what = (one.column.landed if one else "" for one in (user, item))
    asked, when = request.column.landed if request else "", time.landed if time else ""
    tried = [(asked, what), (who, what), (who, what, when), (what, when)]
    complete = [names_of_key for names_of_key in tried if all(names_of_key)]
    repeated = 0
    key: tuple[str, ...] = ()
    for key in complete:
        repeated = _repeated(sample, key)
        if not repeated:
            break
    return key, repeated


def _repeated(sample: Sample, key: tuple[str, ...]) -> int:
    listed = ", ".join(map(quoted, key))
    found = sample.connection.execute(
        f"SELECT coalesce(sum(n) - count(*), 0) FROM "
        f"(SELECT count(*) AS n FROM {sample.table} GROUP BY {listed})"
    ).fetchone()
    return int(found[0]) if found else 0
