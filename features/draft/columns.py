"""The columns of impressions that have no role: what a request brings, and what is known after."""

import dataclasses
from collections.abc import Mapping, Sequence

from features.draft import entries
from features.draft.commented_yaml import Guess
from features.draft.entries import Entry
from features.draft.log import names
from features.draft.log.leaks import MOST_LIKELY_AUC, label_sql, single_column_auc
from features.draft.log.lists import words_of
from features.draft.log.profile import Profile
from features.draft.log.sample import Sample, quoted
from features.draft.roles import Chosen, Roles
from features.schema import Dtype

_FEWEST_REPEATS = 3.0
"""Rows of an item or a user, on average, below which each has one value of anything."""


@dataclasses.dataclass
class Named:
    """Names of a draft's columns, and where they differ from those in the files."""

    taken: set[str] = dataclasses.field(default_factory=set)
    landed: dict[str, str] = dataclasses.field(default_factory=dict)

    def name(self, landed: str, wanted: str = "") -> str:
        """A name for a column of the files."""
        name = names.schema_name(wanted or landed, self.taken)
        self.taken.add(name)
        if name != landed:
            self.landed[name] = landed
        return name


@dataclasses.dataclass(frozen=True)
class Sorted:
    """Columns without a role, by what they are."""

    context: dict[str, object]
    stored: dict[str, object]
    left_out: tuple[str, ...]
    separator: str
    """Between the words of texts that are lists."""


def sort(
    sample: Sample,
    columns: Sequence[Profile],
    roles: Roles,
    named: Named,
    positive_from: float | None,
) -> Sorted:
    """Put each column into context or stored, or leave it out, and say why."""
    context: dict[str, object] = {}
    stored: dict[str, object] = {}
    left_out, separator = [], ""
    for column in columns:
        if reason := _why_left_out(column):
            left_out.append(f"{column.landed} ({reason})")
            continue
        reason, doc = _why_stored(sample, column, roles, positive_from), "the impression"
        listed = words_of(sample, column) if not reason else None
        if listed and separator not in {"", listed.separator}:
            listed = None
        separator = listed.separator if listed else separator
        name, doc = named.name(column.landed), entries.doc_of(column.landed, doc)
        if reason:
            stored[name] = entries.stored(column, doc, reason)
        else:
            context[name] = entries.input_of(column, doc, _BROUGHT, listed)
            if names.has_word(column.landed, names.POSITION) and column.dtype is Dtype.INT64:
                context[name] = entries.position(column, doc)
    return Sorted(context, stored, tuple(left_out), separator)


_BROUGHT = "its name says that a request brings it along; is it known before the items are shown?"


def attributes(
    sample: Sample, columns: Mapping[str, Profile], id_column: str, role: str, named: Named
) -> tuple[dict[str, object], str, str]:
    """Columns of a file of users or items; the name of its title; the separator of its lists."""
    found: dict[str, object] = {}
    title, separator = "", ""
    for column in columns.values():
        if column.landed == id_column or _why_left_out(column):
            continue
        is_prefixed = names.words(column.landed)[:1] == [role]
        name = named.name(
            column.landed, column.landed if is_prefixed else f"{role}_{column.landed}"
        )
        doc = entries.doc_of(column.landed, f"the {role}")
        listed = words_of(sample, column)
        if listed and separator in {"", listed.separator}:
            separator = listed.separator
            found[name] = entries.input_of(column, doc, "", listed)
        elif reason := _why_no_input(column):
            found[name] = _with_kind(entries.stored(column, doc, reason))
            title = title or (name if names.has_word(column.landed, names.TITLE) else "")
        else:
            found[name] = entries.input_of(column, doc)
    return found, title, separator


def _why_no_input(column: Profile) -> str:
    """Why a text is no input: each has its own, and nothing is learnt of it."""
    if column.dtype is Dtype.STRING and column.distinct > column.values // 3 > 0:
        return f"{column.distinct:,} values in {column.values:,} rows: no input, for people alone"
    return ""


def _with_kind(entry: Entry) -> Entry:
    return {"type": entry.pop("type"), "kind": "stored", **entry}


def _why_left_out(column: Profile) -> str:
    if column.dtype is None:
        return f"its type {column.type} is none of a schema file"
    if not column.values:
        return "has no values"
    if column.is_moment:
        return "is another moment"
    if not names.words(column.landed):
        return "has no name of letters or digits"
    return ""


def _why_stored(sample: Sample, column: Profile, roles: Roles, positive_from: float | None) -> str:
    """Why a column is no context; empty where it is."""
    if roles.labels and positive_from is not None:
        auc = _auc(sample, column, roles.labels[0], positive_from)
        if auc is not None and auc > MOST_LIKELY_AUC:
            return (
                f"it tells the label (AUC {auc:.3f} by itself): known only after the impression, "
                "so never an input"
            )
    for role, chosen in (("item", roles.item), ("user", roles.user)):
        if (
            chosen
            and chosen.column.mean_repeats >= _FEWEST_REPEATS
            and _depends(sample, column, chosen)
        ):
            return (
                f"each {role} has one value of it: an attribute. To use it, land {role}s."
                f"{sample.suffix} and add a table {role}_attributes"
            )
    if not names.has_word(column.landed, names.REQUESTED):
        return "is it known before the items are shown? Then move it to context, with a kind"
    return ""


def _auc(sample: Sample, column: Profile, target: Chosen, positive_from: float) -> float | None:
    if column.dtype is None or column.dtype.is_list:
        return None
    is_number = column.dtype in {Dtype.INT64, Dtype.FLOAT64}
    name = quoted(column.landed)
    value = f"try_cast({name} AS DOUBLE)" if is_number else f"nullif({name}::VARCHAR, '')"
    label = label_sql(quoted(target.column.landed), positive_from)
    return single_column_auc(sample.connection, sample.table, value, label, is_number=is_number)


def _depends(sample: Sample, column: Profile, owner: Chosen) -> bool:
    """Whether each value of an id has one value of a column alone, and not all have the same."""
    name = quoted(column.landed)
    found = sample.connection.execute(
        f"SELECT max(n), (SELECT count(DISTINCT {name}) FROM {sample.table}) FROM (SELECT "
        f"count(DISTINCT {name}) AS n FROM {sample.table} GROUP BY {quoted(owner.column.landed)})"
    ).fetchone()
    most, values = found or (0, 0)
    return bool(most == 1 and values > 1)


def guessed_names(named: Named) -> Guess | None:
    """The mapping ``source.columns``."""
    if not named.landed:
        return None
    return Guess(dict(named.landed), "names here, and those in the files")
