"""What an erasure does not remove, why, and until when it is there."""

import datetime
from collections.abc import Mapping, Sequence

from features.erasure.old_files import OldFile
from features.erasure.proof import Left, Proof
from features.places import Place, is_local

_AGAIN = "the next `forget` of this user, or a `prune`, once no job runs"


def what_is_left(
    proof: Proof,
    old: Mapping[str, Sequence[OldFile]],
    unknown_keys: Sequence[str],
    *,
    grace: datetime.timedelta,
    places: Sequence[Place],
) -> list[Left]:
    """The list of it.

    Args:
        proof: With what has landed, and the pages.
        old: Files that a running job may be about to publish, by table.
        unknown_keys: Ids of keys by which rows of the prediction log are hashed.
        grace: After which such files may go.
        places: Of the lake and the store.
    """
    found = [_of_files(table, files, grace) for table, files in sorted(old.items())]
    if proof["landed"]:
        found.append(
            Left(
                what=f"{sum(proof['landed'].values())} landed rows in {len(proof['landed'])} files",
                why="they belong to the system that lands them; no job takes them any more",
                until="that system removes them",
            )
        )
    if unknown_keys:
        found.append(
            Left(
                what=f"rows of the prediction log that are hashed by the keys {list(unknown_keys)}",
                why="without the key nobody can say whose they are",
                until="`prune-log` removes their days (RANKING_LOG_KEEP_DAYS)",
            )
        )
    if proof["pages"]:
        found.append(
            Left(
                what=f"{len(proof['pages'])} pages with a number or word that equals the id",
                why="what it means there a person has to say",
                until="somebody removes them",
            )
        )
    if any(not is_local(one) for one in places):
        found.append(
            Left(
                what="earlier versions of objects, where the bucket keeps them",
                why="only the bucket's own rules remove them",
                until="its rule for non-current versions",
            )
        )
    found.append(
        Left(
            what="the user's part in counts and rates of items and other groups",
            why="what is counted over many people is not the data of one",
            until="the days of the windows are over; all-time counts: the tables are built anew",
        )
    )
    return found


def _of_files(table: str, files: Sequence[OldFile], grace: datetime.timedelta) -> Left:
    until = max(one.written for one in files) + grace
    return Left(
        what=f"{len(files)} files of {table} that no version has named",
        why="a running job may be about to publish them",
        until=f"{until.isoformat(timespec='minutes')}: {_AGAIN}",
    )
