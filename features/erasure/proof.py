"""The file that says what was removed of a user: begun before anything is, and closed at the end.

It has no id in clear. What a killed run has removed is in it, because it is planned first: the next
run finds the open file of the same user, and goes on with it.
"""

import datetime
import json
from typing import TypedDict

from features.lake.snapshot import listed
from features.places import Place, put_whole

FORMAT = 1
OPEN, DONE = "in progress", "done"


class DayProof(TypedDict):
    """What was removed of a day of a table."""

    rows: int
    """The user's own."""
    rows_naming: int
    """Rows of others from whose lists the user was removed."""
    hash_before: str
    hash_after: str
    """Content hashes; empty until the day is written."""


class TableProof(TypedDict):
    """What was removed of a table of the lake."""

    days: dict[str, DayProof]
    untouched: dict[str, str]
    """Content hashes of all other days, before anything was removed."""
    untouched_unchanged: bool | None
    """Whether they are the same at the end; None until then."""
    replaced_by_others: dict[str, str]
    """Of the other days those that jobs have replaced meanwhile, with the job."""
    version_before: int
    version_after: int
    old_files_removed: int
    candidates_removed: list[str]
    pins_removed: list[str]


class Left(TypedDict):
    """What is not removed."""

    what: str
    why: str
    until: str


class Examples(TypedDict):
    """How much of what models learn was removed."""

    erased: int
    """Rows of this user."""
    erased_before: int
    """By earlier erasures of the same id."""
    left: int
    version: int
    """Of the table, from which on the rows are gone."""


class LogProof(TypedDict):
    """What was removed of the prediction log."""

    rows: int
    days: dict[str, int]
    answers: int
    old_files_removed: int


class Proof(TypedDict):
    """All of it."""

    format: int
    state: str
    dataset: str
    user_hash: str
    """By the key of the data set, as ``features.lake.erased`` has it."""
    package: str
    """Version of this package."""
    started_at: str
    finished_at: str
    until: str
    """Rows of the user up to this moment are left out when they land again."""
    tables: dict[str, TableProof]
    examples: Examples
    online_store: dict[str, int]
    prediction_log: LogProof | None
    landed: dict[str, int]
    """Rows by landed file: they are not removed."""
    pages: list[str]
    """Pages in which the text of the id stands, whatever it means there."""
    models: dict[str, object] | None
    """What ``python -m training forget`` has done; None until then."""
    left: list[Left]
    verification: dict[str, object]


def file_of(folder: Place, proof: Proof) -> Place:
    """Where a proof is."""
    at = proof["started_at"].replace(":", "").replace("-", "").partition("+")[0]
    return folder / f"{proof['dataset']}-{proof['user_hash'][:16]}-{at}.json"


def put_proof(folder: Place, proof: Proof) -> Place:
    """Write a proof, whole; returns the file."""
    file = file_of(folder, proof)
    put_whole(file, json.dumps(proof, indent=1).encode())
    return file


def read_proof(file: Place) -> Proof:
    """A proof from its file; ValueError where it is none."""
    try:
        found: Proof = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"proof {file}: cannot be read: {error!r}") from error
    if found.get("format") != FORMAT:
        raise ValueError(f"proof {file}: format {found.get('format')}; {FORMAT}")
    return found


def proofs_of(folder: Place, dataset: str, user_hash: str) -> list[Proof]:
    """The proofs of a user, the oldest first."""
    begins = f"{dataset}-{user_hash[:16]}-"
    names = [name for name, _ in listed(folder) if name.startswith(begins)]
    found = [read_proof(folder / name) for name in names if name.endswith(".json")]
    return [one for one in found if one["user_hash"] == user_hash]


def new_proof(dataset: str, user_hash: str, *, package: str, until: datetime.datetime) -> Proof:
    """A proof of nothing yet."""
    now = datetime.datetime.now(datetime.UTC)
    return Proof(
        format=FORMAT,
        state=OPEN,
        dataset=dataset,
        user_hash=user_hash,
        package=package,
        started_at=now.isoformat(timespec="milliseconds"),
        finished_at="",
        until=until.isoformat(),
        tables={},
        examples=Examples(erased=0, erased_before=0, left=0, version=-1),
        online_store={},
        prediction_log=None,
        landed={},
        pages=[],
        models=None,
        left=[],
        verification={},
    )
