"""What feature rows were computed from: impressions, the files in which they landed, quarantine."""

import dataclasses
import datetime
import hashlib
from collections.abc import Sequence

import pyarrow.dataset as pads

from features.lake.snapshot import Snapshot, snapshot
from features.places import Place
from features.schema import EXAMPLE_ID, LABEL, SOURCE_FILE, SOURCE_LINE, FeatureTable, Role, Schema
from training.explain.feature_rows import Commit, FeatureRow, commit_of

RAW, COUNTED = "impressions_raw", "impressions"
HELD = f"quarantine_{COUNTED}"
READMITTED = f"quarantine_readmitted_{COUNTED}"
_LOOKED_BACK = 7
"""Days, for tables without windows."""
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An impression of an entity, where it landed, and what became of it."""

    day: datetime.date
    example_id: int
    timestamp: str
    label: object
    file: str
    """Below the data set's landing folder."""
    line: int | None
    state: str
    """``counted``, ``held`` in quarantine, ``readmitted``, or ``not counted``."""
    rules: Sequence[str] = ()
    """That hold it, or held it."""
    change: str = ""
    """Of a row that was re-admitted: by which mapping or file, and when."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandedFile:
    """A landed file as it is now."""

    name: str
    is_there: bool
    num_bytes: int = 0
    sha256: str = ""
    is_newer: bool | None = None
    """Whether it was written after the rows were ingested; None: that is not known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """What is left of the impressions behind the feature rows of one entity."""

    role: str
    key: str
    key_value: object
    tables: Sequence[str]
    """Whose rows are made of them."""
    first_day: datetime.date
    last_day: datetime.date
    num_counted: int
    num_held: int
    num_readmitted: int
    rows: Sequence[Source]
    """The newest of them; those that were not simply counted come first."""
    files: Sequence[LandedFile]
    """Those of these rows."""
    commits: dict[str, Commit | None]
    """Of the raw impressions, by day of these rows."""
    gone: Sequence[str]
    """Days that the lake does not have any more."""


def sources(
    schema: Schema, lake: Place, landing: Place, read: Sequence[FeatureRow], *, most: int
) -> list[Sources]:
    """The impressions behind feature rows, for the user and for the item.

    Args:
        schema: The data set.
        lake: Its tables.
        landing: Its landing folder.
        read: The feature rows.
        most: Impressions to list of each.
    """
    found = []
    for role, column in schema.entities():
        of_role = [one for one in read if one.key == column.name and one.day is not None]
        if of_role and of_role[0].key_value is not None:
            days = _days(schema, of_role)
            found.append(_sources(lake, landing, role, of_role, days, most=most))
    return found


def _days(schema: Schema, read: Sequence[FeatureRow]) -> tuple[datetime.date, datetime.date]:
    """First and last day that the windows of some rows reach."""
    spans = []
    for one in read:
        if one.day is not None:
            back = datetime.timedelta(days=_longest(schema.table(one.table)) - 1)
            spans.append((one.day - back, one.day))
    return min(first for first, _ in spans), max(last for _, last in spans)


def _longest(table: FeatureTable) -> int:
    return max(table.windows_days, default=_LOOKED_BACK)


def _sources(
    lake: Place,
    landing: Place,
    role: Role,
    read: Sequence[FeatureRow],
    span: tuple[datetime.date, datetime.date],
    *,
    most: int,
) -> Sources:
    tables = {name: snapshot(lake / name) for name in (RAW, COUNTED, HELD, READMITTED)}
    days = [span[0] + datetime.timedelta(days=n) for n in range((span[1] - span[0]).days + 1)]
    known, key = tables[RAW], read[0].key
    wanted = pads.field(key) == read[0].key_value
    rows = [row for day in days for row in _of_day(tables, day, wanted)]
    # What is unusual first, then the newest.
    rows.sort(key=lambda row: (row.state == "counted", -row.day.toordinal(), row.timestamp))
    shown = rows[:most]
    commits = {str(row.day): commit_of(known, row.day) for row in shown}
    files = {row.file: commits[str(row.day)] for row in shown}
    return Sources(
        role=str(role),
        key=key,
        key_value=read[0].key_value,
        tables=[one.table for one in read],
        first_day=span[0],
        last_day=span[1],
        num_counted=sum(row.state in ("counted", "readmitted") for row in rows),
        num_held=sum(row.state == "held" for row in rows),
        num_readmitted=sum(row.state == "readmitted" for row in rows),
        rows=shown,
        files=[_landed(landing, name, made) for name, made in sorted(files.items())],
        commits=commits,
        gone=[
            str(day) for day in days if known.days and day >= known.days[0] and not known.files(day)
        ]
        + [str(day) for day in days if not known.days or day < known.days[0]],
    )


def _of_day(
    tables: dict[str, Snapshot], day: datetime.date, wanted: pads.Expression
) -> list[Source]:
    raw = tables[RAW].rows(day, wanted)
    if not raw:
        return []
    ids = pads.field(EXAMPLE_ID).isin([row[EXAMPLE_ID] for row in raw])
    counted = {row[EXAMPLE_ID] for row in tables[COUNTED].rows(day, ids)}
    held = {row[EXAMPLE_ID]: row for row in tables[HELD].rows(day, ids)}
    again = {row[EXAMPLE_ID]: row for row in tables[READMITTED].rows(day, ids)}
    return [_source(day, row, counted, held, again) for row in raw]


def _source(
    day: datetime.date,
    row: dict[str, object],
    counted: set[object],
    held: dict[object, dict[str, object]],
    again: dict[object, dict[str, object]],
) -> Source:
    number = row[EXAMPLE_ID]
    changed, rules, change = again.get(number), [], ""
    state = "counted" if number in counted else "not counted"
    if number in held:
        state, rules = "held", _texts(held[number].get("rules"))
    elif changed is not None and number in counted:
        state, rules = "readmitted", _texts(changed.get("broken"))
        change = f"{changed.get('source')} at {changed.get('readmitted_at')}"
    line = row.get(SOURCE_LINE)
    return Source(
        day=day,
        example_id=int(str(number)),
        timestamp=str(row.get("timestamp")),
        label=row.get(LABEL),
        file=str(row.get(SOURCE_FILE)),
        line=int(str(line)) if line is not None else None,
        state=state,
        rules=rules,
        change=change,
    )


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _landed(landing: Place, name: str, made: Commit | None) -> LandedFile:
    """A landed file with its hash; a folder or a topic has none."""
    file = landing / name
    if not file.is_file():
        return LandedFile(name=name, is_there=file.exists())
    digest, num_bytes = hashlib.sha256(), 0
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
            num_bytes += len(block)
    written = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
    is_newer = written > datetime.datetime.fromisoformat(made.at) if made and made.at else None
    return LandedFile(
        name=name,
        is_there=True,
        num_bytes=num_bytes,
        sha256=digest.hexdigest(),
        is_newer=is_newer,
    )
