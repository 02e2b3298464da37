"""Who was erased: keyed hashes of users' ids, so that what lands again does not bring them back.

A folder next to the tables has a key of the data set and a small file for each erased user. The id
itself is nowhere: who has the key can test whether a known id is among them, and nobody can list
them.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence

from features.lake.snapshot import listed
from features.places import Place, put_new, put_whole

FOLDER = "_erased"
"""Next to the tables; no engine takes it for one."""
_KEY = "key"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ErasedExamples:
    """What one erasure of a user has removed of the examples."""

    erasure: str
    """Moment at which it began, by which a run that goes on after a kill is the same erasure."""
    rows: int
    version: int
    """Of the examples, from which on they are gone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Erased:
    """One user who was erased."""

    id_hash: str
    until: datetime.datetime
    """Rows of the id up to this moment are left out when they land again; later ones are taken."""
    examples: Sequence[ErasedExamples] = ()
    """Those of its erasures that removed any, the oldest first."""

    @property
    def num_examples(self) -> int:
        """Rows of the examples that were removed, all erasures together."""
        return sum(one.rows for one in self.examples)

    def with_examples(self, added: ErasedExamples) -> "Erased":
        """The same after an erasure, or after more of one that is known."""
        others = [one for one in self.examples if one.erasure != added.erasure]
        return dataclasses.replace(self, examples=[*others, added] if added.rows else others)


def hash_key(lake: Place) -> str:
    """The key of a data set, which is made by the first that asks."""
    file = lake / FOLDER / _KEY
    with contextlib.suppress(FileExistsError):
        if not file.exists():
            put_new(file, secrets.token_hex(32).encode())
    return file.read_text()


def hash_text(key: str) -> str:
    """What stands before the text of an id when it is hashed; Spark hashes the same."""
    return f"{key}\nuser\n"


def id_hash(key: str, user_id: int | str) -> str:
    """The hash of a user's id: 64 hexadecimal digits."""
    return hashlib.sha256(f"{hash_text(key)}{user_id}".encode()).hexdigest()


def erased_users(lake: Place) -> list[Erased]:
    """The users who were erased, by hash.

    Raises:
        ValueError: A file cannot be read; nobody knows whose rows must not come back.
    """
    names = [name for name, _ in listed(lake / FOLDER) if name.endswith(".json")]
    return [_read(lake / FOLDER / name) for name in names]


def erased_user(lake: Place, user_hash: str) -> Erased | None:
    """One of them; None where this user was not erased. Raises as ``erased_users``."""
    file = _file(lake, user_hash)
    return _read(file) if file.exists() else None


def put_erased(lake: Place, one: Erased) -> None:
    """Note a user; what was noted before gives way."""
    content = {**dataclasses.asdict(one), "until": one.until.isoformat()}
    put_whole(_file(lake, one.id_hash), json.dumps(content).encode())


def _read(file: Place) -> Erased:
    try:
        found = json.loads(file.read_bytes())
        until = datetime.datetime.fromisoformat(found["until"])
        return Erased(
            id_hash=str(found["id_hash"]),
            until=until,
            examples=_examples(found),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"erased user {file}: cannot be read ({error!r}); repair it: while it is so, nothing "
            "is ingested, for the user's rows could come back"
        ) from error


def _examples(found: Mapping[str, object]) -> list[ErasedExamples]:
    rows = found["examples"]
    if isinstance(rows, list):
        return [ErasedExamples(**part) for part in rows]
    # Files of earlier versions have the sum of all erasures.
    version = int(str(found["examples_version"]))
    return [ErasedExamples(erasure="", rows=int(str(rows)), version=version)] if rows else []


def _file(lake: Place, user_hash: str) -> Place:
    return lake / FOLDER / f"{user_hash}.json"
