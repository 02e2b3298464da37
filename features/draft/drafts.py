"""A schema file drafted from a sample of a log, with a comment at each guess."""

import dataclasses

from features.draft import columns, entries, limits, tables
from features.draft.columns import Named
from features.draft.commented_yaml import Ask, Guess, Written, plain, write
from features.draft.entries import Entry
from features.draft.log.names import words
from features.draft.log.profile import Profile, profiles
from features.draft.log.sample import DELTA, Sample, quoted
from features.draft.roles import Chosen, Roles, guess
from features.places import uri
from features.schema import EXAMPLE_ID, Dtype

_LEAST_ON_SEVERAL_DAYS = 0.5


@dataclasses.dataclass(frozen=True)
class Draft:
    """The text of a schema file, and what is left to a person."""

    written: Written
    notes: tuple[str, ...]
    """What a person should look at first."""


def draft(
    sample: Sample, *, name: str, items: Sample | None = None, users: Sample | None = None
) -> Draft:
    """Draft the schema file of a log.

    Args:
        sample: Impressions.
        name: Of the data set.
        items: What is known of items.
        users: What is known of users.
    """
    return _Drafting(sample, name, items, users).draft()


class _Drafting:
    def __init__(
        self, sample: Sample, name: str, items: Sample | None, users: Sample | None
    ) -> None:
        self._sample, self._name = sample, name
        self._attributes = {"item": items, "user": users}
        self._columns = profiles(sample)
        self._roles: Roles = guess(sample, self._columns)
        self._named = Named()
        self._notes: list[str] = []
        self._title, self._separator = "", ""

    def draft(self) -> Draft:
        roles = self._roles
        entity = {role: self._entity(role) for role in ("user", "item")}
        key = self._key()
        labels, positive_from = self._labels()
        rest = self._rest()
        found = columns.sort(self._sample, rest, roles, self._named, positive_from)
        self._separator = found.separator
        if found.left_out:
            self._notes.append(f"left out: {', '.join(found.left_out)}")
        made = self._tables()
        entries_of_file: Entry = {
            "name": self._name,
            "doc": f"Impressions of {self._name}: who was shown what, and what happened.",
            "licence": Guess("ours", "of the log; a public one has its own"),
            **self._days(),
            **key,
            **entity,
            **({"context": found.context} if found.context else {}),
            **self._stored(found),
            **labels,
            "tables": made,
            **({"item_title": self._title} if self._title else {}),
            "limits": self._limits(positive_from),
            "source": self._source(),
        }
        kept = {name: value for name, value in entries_of_file.items() if value is not None}
        return Draft(write(kept, head=self._head()), tuple(self._notes))

    def _head(self) -> str:
        sample = self._sample
        files = str(sample.files[0]) if len(sample.files) == 1 else f"{len(sample.files)} files"
        read = f"{sample.rows:,} rows of {files}" + ("" if sample.is_whole else ", which have more")
        return (
            f"Drafted by `python -m features init` from {read}. A comment stands at each guess: "
            "read it, correct what is wrong, remove it. Then run `python -m features check`."
        )

    def _days(self) -> Entry:
        if self._roles.time is None:
            ask = "no column has moments. Which day is the first?"
            return {"first_day": Ask(ask), "holdout_days": 1, "epoch": Ask("a day before it")}
        return limits.days(self._roles.time)

    def _entity(self, role: str) -> object:
        chosen: Chosen | None = getattr(self._roles, role)
        if chosen is None and role == "item":
            listed = ", ".join(self._columns)
            return Ask(f"which column has the id of what was shown? The columns are {listed}")
        if chosen is None:
            self._notes.append(
                "user: no column looks like the id of a user; add `user` by hand, or leave it out "
                "where users have no id"
            )
            return None
        name = self._named.name(chosen.column.landed)
        is_input = role == "item" or self._comes_back(chosen)
        return entries.entity(chosen.column, name, role=role, why=chosen.why, is_input=is_input)

    def _comes_back(self, user: Chosen) -> bool:
        """Whether most users are there on several days, where several were seen."""
        time = self._roles.time
        if time is None or len(time.days) < 3:
            return True
        found = self._sample.connection.execute(
            f"SELECT avg((n > 1)::INT) FROM (SELECT count(DISTINCT {time.sql}::DATE) AS n FROM "
            f"{self._sample.table} GROUP BY {quoted(user.column.landed)})"
        ).fetchone()
        return found is not None and float(found[0] or 0) >= _LEAST_ON_SEVERAL_DAYS

    def _key(self) -> Entry:
        """The id of a request, and what tells impressions apart."""
        roles = self._roles
        key: Entry = {}
        if roles.request:
            column = roles.request.column
            name = self._named.name(column.landed)
            why = f"the request that shows several items at once, {roles.request.why}"
            key["request"] = {
                "name": Guess(name, why),
                "type": str(column.dtype),
                "doc": "The request: items with the same one were shown together.",
            }
        if roles.example is None:
            key["example_id"] = self._derived()
        elif roles.example.column.dtype is Dtype.INT64:
            # Such a log has the id that is needed, whatever its name.
            self._named.landed |= _renamed(EXAMPLE_ID, roles.example.column.landed)
        else:
            said = f"{roles.example.why}; its hash is the id"
            key["example_id"] = {"column": Guess(roles.example.column.landed, said)}
        return key

    def _derived(self) -> object:
        roles, sample = self._roles, self._sample
        if not roles.key:
            return Ask("which columns tell two impressions apart? `from: [request_id, item_id]`")
        said = "no two rows have the same of these"
        if roles.repeated:
            said = f"{roles.repeated:,} of {sample.rows:,} rows have these of another: which is it?"
            self._notes.append(f"example_id: {said}")
        time = roles.time.landed if roles.time else ""
        by_landed = {landed: name for name, landed in self._named.landed.items()}
        names = ["timestamp" if one == time else by_landed.get(one, one) for one in roles.key]
        return {"from": Guess(names, said)}

    def _labels(self) -> tuple[Entry, float | None]:
        roles = self._roles
        if not roles.labels:
            ask = (
                "which column says what happened, with a number? Write it into `stored` and here: "
                "labels: {click: {column: clicked, positive_from: 1, delay: 10m}}"
            )
            return {"labels": Ask(ask), "target": Ask("the name of the label to learn")}, None
        found: dict[str, object] = {}
        for chosen in roles.labels:
            column = self._named.name(chosen.column.landed)
            name, entry, _ = limits.label(self._sample, chosen, column)
            found[name if name not in found else column] = entry
        target = next(iter(found))
        said = "of the labels, the one with the most positives" if len(found) > 1 else ""
        first = found[target]
        start = float(str(plain(first["positive_from"]))) if isinstance(first, dict) else 1.0
        return {"labels": found, "target": Guess(target, said) if said else target}, start

    def _stored(self, found: columns.Sorted) -> Entry:
        stored: dict[str, object] = {}
        for chosen in self._roles.labels:
            column = chosen.column
            name = next(
                (one for one, landed in self._named.landed.items() if landed == column.landed),
                column.landed,
            )
            stored[name] = {
                "type": str(column.dtype),
                "minimum": _whole(column.low or 0.0),
                "maximum": _whole(column.high or 0.0),
                "doc": f"What happened: {' '.join(words(column.landed))}, as the log has it.",
            }
        return {"stored": stored | found.stored}

    def _rest(self) -> list[Profile]:
        roles = self._roles
        chosen = (roles.user, roles.item, roles.request, roles.example, *roles.labels)
        used = {one.column.landed for one in chosen if one}
        if roles.time:
            used.add(roles.time.landed)
        return [one for name, one in self._columns.items() if name not in used]

    def _tables(self) -> list[Entry]:
        time = self._roles.time
        span = time.span_days if time else 1
        own = tables.of_impressions(span, has_user=self._roles.user is not None)
        return own + [table for role in ("user", "item") for table in self._attributes_of(role)]

    def _attributes_of(self, role: str) -> list[Entry]:
        sample: Sample | None = self._attributes[role]
        chosen: Chosen | None = getattr(self._roles, role)
        if sample is None:
            return []
        if chosen is None:
            raise ValueError(
                f"--{role}s {sample.files[0]}: no column of the log is the {role}'s id"
            )
        id_column = chosen.column.landed
        if id_column not in sample.types or sample.suffix != self._sample.suffix:
            raise ValueError(
                f"--{role}s {sample.files[0]}: expected a {self._sample.suffix} file with a column "
                f"{id_column}, as impressions have it; it is {sample.suffix} with "
                f"{list(sample.types)}"
            )
        found, title, separator = columns.attributes(
            sample, profiles(sample), id_column, role, self._named
        )
        if role == "item":
            self._title = title
        self._separator = self._separator or separator
        self._notes.append(
            f"{role}s: land {sample.files[0]} as {role}s.{sample.suffix}, next to the folder "
            "of impressions"
        )
        return [
            {"kind": f"{role}_attributes", "doc": f"What is known of {role}s.", "columns": found}
        ]

    def _limits(self, positive_from: float | None) -> object:
        time, labels = self._roles.time, self._roles.labels
        if time is None or not labels or positive_from is None:
            return Ask("write them when the time column and the label are known")
        return limits.limits(self._sample, time, labels[0], positive_from)

    def _source(self) -> Entry:
        sample, time = self._sample, self._roles.time
        source: Entry = {"format": sample.format}
        if sample.format == DELTA:
            source["path"] = uri(sample.files[0])
        if sample.compression:
            source["compression"] = sample.compression
        if time is None:
            source["time"] = Ask("which column has the moment? time: {column: at, unit: seconds}")
        else:
            unit = {"unit": time.unit} if time.unit else {}
            source["time"] = Guess({"column": time.landed, **unit}, time.why)
        if mapping := columns.guessed_names(self._named):
            source["columns"] = mapping
        if self._separator and self._separator != " ":
            source["list_separator"] = self._separator
        return source


def _renamed(name: str, landed: str) -> dict[str, str]:
    return {} if name == landed else {name: landed}


def _whole(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number
