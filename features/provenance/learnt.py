"""What was learnt: a small file at the lake for each ranker, written when its training is done.

It names the days of which rows are in the ranker's weights, with a hash of these rows and the
training that has learnt them, its own and those before it. It has no rows and no ids: it outlives
the rows of a day, and the checkpoints before its own. A training that was killed, or has failed,
has written none, so it has learnt nothing. What keeps files of a version from deletion while
somebody needs them is a pin (``features.lake.pins``).
"""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence

from features.lake.commit import Metadata, is_rewrite
from features.lake.day_rows import Partition
from features.lake.snapshot import Snapshot, listed, snapshot
from features.places import Place, put_whole

FOLDER = "_learnt"
"""Beside the tables; no engine takes it for one."""
EXAMPLES = "examples"

Rows = Mapping[datetime.date, str]
"""Of each day the hash of its rows (``rows_of``)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What one training has learnt of a table."""

    by: str
    """Name of its checkpoint, which may be gone."""
    parent: str | None = None
    """The checkpoint that it went on from; None: it was a training from scratch."""
    table: str = EXAMPLES
    version: int | None = None
    """Of the table, that it read; None: not known."""
    fingerprint: str = ""
    """Of the schema by which the rows were made; empty: not known."""
    days: Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a ranker has learnt."""

    checkpoint: str
    role: str = ""
    """The checkpoint's; empty of a day's own training, from which later ones go on."""
    run: str = ""
    """Of the training, by which a checkpoint of the same name that was trained again is known."""
    at: datetime.datetime
    """When the training was done."""
    steps: Sequence[Step]
    """Of its line from the training from scratch on, the oldest first, its own last."""
    judged: Rows = dataclasses.field(default_factory=dict)
    """Days of examples that it was judged on when it was trained."""

    @property
    def rows(self) -> dict[datetime.date, str]:
        """Days of examples in its weights, by the hash of their rows."""
        found: dict[datetime.date, str] = {}
        for step in self.steps:
            if step.table == EXAMPLES:
                found |= step.days
        return found

    @property
    def versions(self) -> dict[datetime.date, int]:
        """Of the same days the version of the examples that was read; -1 where it is not known."""
        return {
            day: -1 if step.version is None else step.version
            for step in self.steps
            if step.table == EXAMPLES
            for day in step.days
        }

    @property
    def known_since(self) -> datetime.date:
        """The first day of which it says whether it was learnt.

        Of a line whose oldest checkpoints went before there were records, the first of the others.
        """
        is_whole = not self.steps or self.steps[0].parent is None
        earliest = datetime.date.min
        return earliest if is_whole else min([*self.rows, *self.judged], default=earliest)


def rows_of(part: Partition) -> str:
    """The hash by which a day's rows are known: users that were erased from them do not change it.

    Those rows are not to be learnt again because of what was taken out.
    """
    return part.stands_for or part.content_hash


def is_as_learnt(part: Partition, rows: str) -> bool:
    """Whether a day has the rows that were learnt, but for those of users who were erased since."""
    return rows in {part.content_hash, part.stands_for} - {""}


def put_learnt(lake: Place, one: Learnt) -> None:
    """Write the record of a ranker; one of its name gives way.

    Args:
        lake: The tables of a data set.
        one: What was learnt.
    """
    content = dataclasses.asdict(one) | {"at": one.at.isoformat(timespec="seconds")}
    content["judged"] = _to_text(one.judged)
    content["steps"] = [
        dataclasses.asdict(step) | {"days": _to_text(step.days)} for step in one.steps
    ]
    put_whole(_file(lake, one.checkpoint), json.dumps(content, indent=1).encode())


def find_learnt(lake: Place, checkpoint: str) -> Learnt | None:
    """The record of a ranker; None where there is none.

    Raises:
        ValueError: It cannot be read.
    """
    file = _file(lake, checkpoint)
    return _read(file) if file.exists() else None


def all_learnt(lake: Place) -> list[Learnt]:
    """The records of all kept rankers, by name; raises as ``find_learnt``."""
    names = [name for name, _ in listed(lake / FOLDER) if name.endswith(".json")]
    return [_read(lake / FOLDER / name) for name in names]


def remove_learnt(lake: Place, checkpoint: str) -> None:
    """Nothing is left of the ranker; nothing happens where its record is gone already."""
    _file(lake, checkpoint).unlink(missing_ok=True)


def learnt_otherwise(one: Learnt, newest: Snapshot) -> list[datetime.date]:
    """Days in a ranker's weights whose rows are others now, oldest first.

    Days that are gone do not count, nor those that were learnt under another schema: a ranker
    that takes over the old one's weights goes on from what was learnt before.
    """
    found: dict[datetime.date, bool] = {}
    for step in one.steps:
        there = [day for day in step.days if newest.files(day)] if step.table == EXAMPLES else []
        for day, part in newest.partitions(there).items():
            is_comparable = step.fingerprint in ("", part.fingerprint)
            found[day] = is_comparable and not is_as_learnt(part, step.days[day])
    return sorted(day for day, is_other in found.items() if is_other)


def mended_first(known: Sequence[Learnt], newest: Snapshot) -> list[Learnt]:
    """Rankers in the order in which a later training should go on from them.

    Args:
        known: The newest first.
        newest: The examples as they are.

    Returns:
        The same. Where the newest has learnt days that were made again since, those come first that
        have learnt these days since, and nothing otherwise; later ones of these days are learnt by
        who goes on from there.
    """
    due = learnt_otherwise(known[0], newest) if known else []
    if not due:
        return [*known]
    made_in = _made_in(newest, due)
    mended = [one for one in known if _has_learnt_again(one, made_in, newest)]
    return [*mended, *(one for one in known if one not in mended)]


def _has_learnt_again(one: Learnt, made_in: Mapping[datetime.date, int], newest: Snapshot) -> bool:
    read = one.versions
    of_its_time = [day for day in made_in if read and day <= max(read)]
    # Where a change was taken back, one from before it has learnt the same rows.
    is_since = all(read.get(day, -1) >= made_in[day] for day in of_its_time)
    return bool(of_its_time) and is_since and not learnt_otherwise(one, newest)


def _made_in(newest: Snapshot, days: Sequence[datetime.date]) -> dict[datetime.date, int]:
    """The version in which each of some days got the rows that it has."""
    history = newest.history()
    return {day: _version_of(part, history) for day, part in newest.partitions(days).items()}


def _version_of(part: Partition, history: Sequence[Metadata]) -> int:
    found: int | None = None
    for said in history:
        days, hashes, version = (said.get(name) for name in ("days", "content_hashes", "version"))
        if not isinstance(days, list) or str(part.day) not in days or is_rewrite(said):
            continue
        rows = hashes.get(str(part.day), "") if isinstance(hashes, dict) else ""
        if found is not None and not is_as_learnt(part, rows):
            break
        found = version if isinstance(version, int) else None
    return found or 0


def newest_learnt(lake: Place) -> Learnt | None:
    """Of the rankers that days have trained, the one from which the next training would go on."""
    own = [one for one in all_learnt(lake) if not one.role]
    own.sort(key=lambda one: (one.checkpoint[:10], one.at), reverse=True)
    return next(iter(mended_first(own, snapshot(lake / EXAMPLES))), None)


def rebuilt_days(lake: Place) -> tuple[str, list[datetime.date]]:
    """The newest ranker, and days in its weights that were made again since; no name for none."""
    one = newest_learnt(lake)
    return (one.checkpoint, learnt_otherwise(one, snapshot(lake / EXAMPLES))) if one else ("", [])


def unlearnt_days(lake: Place, days: Sequence[datetime.date]) -> list[datetime.date]:
    """Days of examples that the newest training has not read as they are.

    Args:
        lake: The tables of a data set.
        days: The days to look at; left out are those that are not there, and those of which nobody
            knows (``Learnt.known_since``).
    """
    found, one = snapshot(lake / EXAMPLES), newest_learnt(lake)
    read = {**one.judged, **one.rows} if one else {}
    since = one.known_since if one else datetime.date.min
    parts = found.partitions([day for day in days if day >= since and found.files(day)])
    return [day for day, part in parts.items() if not is_as_learnt(part, read.get(day, ""))]


def learnt_days(lake: Place) -> dict[datetime.date, str]:
    """Days of examples that a kept ranker was trained or judged on, with the newest's name."""
    found: dict[datetime.date, str] = {}
    for one in all_learnt(lake):
        found |= dict.fromkeys([*one.judged, *one.rows], one.checkpoint)
    return found


def _to_text(rows: Rows) -> dict[str, str]:
    return {str(day): content for day, content in rows.items()}


def _to_days(rows: Mapping[str, str]) -> dict[datetime.date, str]:
    return {datetime.date.fromisoformat(day): str(content) for day, content in rows.items()}


def _read(file: Place) -> Learnt:
    try:
        found = json.loads(file.read_bytes())
        steps = [Step(**{**step, "days": _to_days(step["days"])}) for step in found["steps"]]
        at = datetime.datetime.fromisoformat(found["at"])
        return Learnt(**{**found, "at": at, "steps": steps, "judged": _to_days(found["judged"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"record of what was learnt {file}: cannot be read ({error!r}); repair it, or remove "
            "it: `python -m training prune` writes that of a checkpoint that is there again"
        ) from error


def _file(lake: Place, checkpoint: str) -> Place:
    return lake / FOLDER / f"{checkpoint}.json"
