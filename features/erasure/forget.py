"""The order in which a user is erased: plan, note, remove table by table, look again.

What tells rows that do not have the user's id, such as events that name a request, stands in the
impressions. So these go last: a run that is killed finds the rest again.
"""

import dataclasses
import datetime
from collections.abc import Callable
from importlib.metadata import version

import pyarrow as pa
from pyspark.sql import SparkSession

from features.erasure import lake_tables, rows
from features.erasure.lake_tables import LAST, Plan
from features.erasure.landed import landed_rows, pages_with
from features.erasure.left import what_is_left
from features.erasure.log_rows import LogMarks, erase_log
from features.erasure.marks import (
    TableMarks,
    histories_of_users,
    is_key_of,
    keys_of_user,
)
from features.erasure.person import Person
from features.erasure.proof import DONE, OPEN, LogProof, Proof, new_proof, proofs_of, put_proof
from features.lake.erased import Erased, ErasedExamples, erased_user, hash_key, id_hash, put_erased
from features.lake.lake import EXAMPLES
from features.lake.snapshot import snapshot
from features.online_store.erase import StoredUser, erase_rows
from features.places import Place
from features.prediction_log.hashed_ids import IdHash
from features.prediction_log.table import table_root
from features.schema import EXAMPLE_ID, Role


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where a data set's data lie."""

    lake: Place
    """Of all data sets."""
    store: Place
    log: Place | None
    """Of all prediction logs; None: there is none."""
    landing: Place | None
    """None: what has landed is not read."""
    reports: Place
    proofs: Place


class Erasure:
    """The erasure of one user.

    Args:
        person: The user, by id alone.
        places: Where the data lie.
        log_key: By which ids in the prediction log are hashed; None: they are not.
        grace: Files that no version has named stay while they are younger.
        session: Starts Spark when it is needed.
    """

    def __init__(
        self,
        person: Person,
        places: Places,
        *,
        log_key: bytes | None,
        grace: datetime.timedelta,
        session: Callable[[], SparkSession],
    ) -> None:
        self.schema = person.schema
        self.root = places.lake / person.schema.name
        self.places, self.grace, self._session = places, grace, session
        self._hashed = IdHash(log_key) if log_key else None
        self.person = self._with_ids(person)

    def plan(self) -> Plan:
        """What of the lake is the user's now."""
        return lake_tables.plan(self.root, self.person)

    def stored(self, *, dry_run: bool) -> dict[str, int]:
        """Remove, or count, what the online store has."""
        return erase_rows(self._stored_user(), self.places.store, dry_run=dry_run)

    def logged(self, *, dry_run: bool) -> tuple[LogProof | None, list[str]]:
        """Remove, or count, what the prediction log has; and ids of keys that nobody has given."""
        if self.places.log is None:
            return None, []
        root = table_root(self.places.log, self.schema.name)
        marks = LogMarks(TableMarks(self.person, ""), self._hashed)
        found = erase_log(root, marks, grace=self.grace, dry_run=dry_run)
        if found is None:
            return None, []
        proof = LogProof(
            rows=found.rows,
            days=found.days,
            answers=found.answers,
            old_files_removed=found.files,
        )
        return proof, found.unknown_keys

    def landed(self) -> dict[str, int]:
        """Rows by landed file."""
        if self.places.landing is None:
            return {}
        return landed_rows(self.person, self.places.landing, self._session)

    def run(self, *, until: datetime.datetime) -> Proof:
        """Remove all of it, and write the proof.

        Args:
            until: Rows of the user up to this moment are left out when they land again.

        Raises:
            ConflictError: Others replace a day all the time.
        """
        user_hash = id_hash(hash_key(self.root), self.person.user_id)
        proof = self._begun(user_hash, until)
        # First: a job that ingests meanwhile must not bring the user back.
        self._note(proof)
        for name in lake_tables.in_order(self.root):
            lake_tables.erase_table(
                self.root, name, self.person, proof, grace=self.grace, session=self._session
            )
            put_proof(self.places.proofs, proof)
        for name, number in self.stored(dry_run=False).items():
            proof["online_store"][name] = proof["online_store"].get(name, 0) + number
        put_proof(self.places.proofs, proof)
        self._erase_log(proof)
        self._close(proof)
        self._note(proof)
        put_proof(self.places.proofs, proof)
        return proof

    def _with_ids(self, person: Person) -> Person:
        """The user with the ids of requests and impressions that the lake knows."""
        request = self.schema.request
        requests: set[int | str] = set()
        examples: set[int | str] = set()
        for name in LAST:
            found, marks = snapshot(self.root / name), TableMarks(person, name)
            days = list(rows.found_by_day(found, marks))
            for table in rows.rows_of(found, days, marks):
                if request is not None:
                    requests |= _values(table, request.name)
                examples |= _values(table, EXAMPLE_ID)
        return dataclasses.replace(
            person, requests=frozenset(requests), examples=frozenset(examples)
        )

    def _begun(self, user_hash: str, until: datetime.datetime) -> Proof:
        """The open proof of this user, or a new one, with all that is to be removed."""
        name, folder = self.schema.name, self.places.proofs
        opened = [one for one in proofs_of(folder, name, user_hash) if one["state"] == OPEN]
        before = erased_user(self.root, user_hash)
        proof = new_proof(name, user_hash, package=version("wukong-ranking"), until=until)
        proof["examples"]["erased_before"] = before.num_examples if before else 0
        proof = opened[-1] if opened else proof
        moments = [datetime.datetime.fromisoformat(proof["until"]), until]
        proof["until"] = max(moments + ([before.until] if before else [])).isoformat()
        for table, days in self.plan().days.items():
            lake_tables.add_plan(proof, snapshot(self.root / table), days)
        examples = proof["tables"].get(EXAMPLES)
        days_of_examples = examples["days"].values() if examples else ()
        proof["examples"]["erased"] = sum(day["rows"] for day in days_of_examples)
        proof["landed"] = self.landed()
        proof["pages"] = pages_with(self.places.reports / name, str(self.person.user_id))
        put_proof(folder, proof)
        return proof

    def _note(self, proof: Proof) -> None:
        """Let what lands of the user be left out from now on; say what was removed of examples."""
        before = erased_user(self.root, proof["user_hash"])
        noted = Erased(
            id_hash=proof["user_hash"],
            until=datetime.datetime.fromisoformat(proof["until"]),
            examples=before.examples if before else (),
        )
        own = ErasedExamples(
            erasure=proof["started_at"],
            rows=proof["examples"]["erased"],
            version=snapshot(self.root / EXAMPLES).version,
        )
        put_erased(self.root, noted.with_examples(own))

    def _erase_log(self, proof: Proof) -> None:
        found, _ = self.logged(dry_run=False)
        if found is not None and (earlier := proof["prediction_log"]):
            for day, number in earlier["days"].items():
                found["days"][day] = found["days"].get(day, 0) + number
            found["rows"] += earlier["rows"]
            found["answers"] += earlier["answers"]
            found["old_files_removed"] += earlier["old_files_removed"]
        proof["prediction_log"] = found
        put_proof(self.places.proofs, proof)

    def _close(self, proof: Proof) -> None:
        """Say how the tables are now, what is left, and what a second look has found."""
        for name, table in proof["tables"].items():
            lake_tables.close_table(snapshot(self.root / name), table)
        examples = snapshot(self.root / EXAMPLES)
        proof["examples"] |= {"left": examples.num_rows, "version": examples.version}
        plan, (log, unknown) = self.plan(), self.logged(dry_run=True)
        proof["verification"] = {
            "tables": {
                name: sum(one.rows + one.named_in for one in days.values())
                for name, days in plan.days.items()
            },
            "old_files": {name: len(files) for name, files in plan.old.items()},
            "online_store": self.stored(dry_run=True),
            "prediction_log": log["rows"] if log else 0,
        }
        places = (self.places.lake, self.places.store)
        proof["left"] = what_is_left(proof, plan.old, unknown, grace=self.grace, places=places)
        proof["state"] = DONE
        proof["finished_at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def _stored_user(self) -> StoredUser:
        person, by = self.person, keys_of_user(self.schema)
        of_users = [columns[0] for columns in histories_of_users(self.schema)]
        types = {column.name: column.dtype for column in self.schema.columns()}

        def has_user(of: str, one: int | str) -> bool:
            if of == Role.USER:
                return one == person.user_id
            return of in by and is_key_of(person, by[of], one)

        return StoredUser(
            schema=self.schema,
            user_id=person.user_id,
            has_user=has_user,
            lists={name: types[name] for name in of_users},
        )


def _values(table: pa.Table, name: str) -> set[int | str]:
    """The values of a column, where the table has it."""
    values = table.column(name).to_pylist() if name in table.column_names else []
    return {one for one in values if one is not None}
